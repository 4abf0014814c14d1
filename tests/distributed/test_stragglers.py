"""Find the slow rank by the time that each rank needs alone."""

import json
import os
import socket
import time
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.distributed.stragglers import ForwardClock, conspicuous, straggler
from tests.support.ranks import run_ranks
from tests.support.runs import folder


def test_the_clock_counts_its_blocks_only_and_starts_anew() -> None:
    clock = ForwardClock(torch.device("cpu"), 2)
    for _ in range(2):
        with clock:
            time.sleep(0.02)
        time.sleep(0.02)
    assert 0.04 <= clock.take() < 0.06 + 0.1
    assert clock.take() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_time_is_that_of_the_device() -> None:
    clock = ForwardClock(torch.device("cuda"), 2)
    a = torch.randn(4096, 4096, device="cuda")
    with clock:
        for _ in range(20):
            a = a @ a
            a /= a.norm()
    assert clock.take() > 1e-3


def test_the_slowest_rank_is_named_with_its_distance_to_the_others() -> None:
    columns = straggler(waited_W=[0.5, 0.0, 2.0, 0.0], forward_W=[1.0, 1.2, 1.0, 3.0], elapsed=4.0)
    assert columns == {"data_wait_max": 0.5, "slowest_rank": 3, "slowest_ratio": 3.0}


def test_ranks_that_did_nothing_are_not_slow() -> None:
    assert straggler([0.0, 0.0], [0.0, 0.0], 1.0)["slowest_ratio"] == 1.0


@pytest.mark.parametrize(
    ("forward_W", "steps", "named"),
    [
        ([0.100, 0.100, 0.201], 1, True),
        ([0.100, 0.100, 0.199], 1, False),  # a pause in one step
        ([1.0, 1.0, 1.4], 10, False),  # less than CONSPICUOUS
        ([0.001, 0.001, 0.002], 1, False),
        ([0.050, 0.050, 0.100], 50, False),
        ([5.0, 5.0, 9.9], 1000, False),  # 4.9 ms of each step
        ([5.0, 5.0, 10.0], 1000, True),
        ([0.0, 0.0], 10, False),
    ],
)
def test_a_straggler_is_named_if_it_costs_time_that_counts(forward_W: list[float], steps: int, named: bool) -> None:
    assert conspicuous(forward_W, steps) is named


def _slow_on_rank_1(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    if os.environ["RANK"] == "1":
        ForwardClock.take = lambda self: 100.0  # type: ignore[method-assign]
    return main(parse_config(tree))


def test_a_straggler_shows_in_the_rows_and_by_host_name(
    tree: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_ranks(2, _slow_on_rank_1, tree) == [0, 0]
    lines = (folder(tree) / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    assert {row["slowest_rank"] for row in rows} == {1}
    assert min(row["slowest_ratio"] for row in rows) > 1.5
    warnings = [line for line in "".join(capfd.readouterr()).splitlines() if "times as long as the others" in line]
    assert len(warnings) == 1
    assert f"rank 1 on {socket.gethostname()} takes" in warnings[0]
