"""One attempt: time limit, endings, and the files for the next attempt."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.distributed.stop import Limit
from dist_train.drill.faults import Traces, wait_until
from dist_train.errors import EXIT_STOPPED
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.training.attempt import time_limit
from tests.support.forked_start import ForkedStart
from tests.support.ranks import collect, run_ranks, start_ranks
from tests.support.runs import changed, folder, train


def _main(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


@pytest.mark.parametrize(
    ("limit", "end", "allowed"),
    [
        (None, None, None),
        ("0:01:00", None, Limit(60, "train.time_limit=0:01:00")),
        (None, "1100", Limit(100, "end of the SLURM job, SLURM_JOB_END_TIME=1100")),
        ("0:01:00", "1100", Limit(60, "train.time_limit=0:01:00")),
        ("0:03:00", "1100", Limit(100, "end of the SLURM job, SLURM_JOB_END_TIME=1100")),
        ("0:03:00", "999", Limit(180, "train.time_limit=0:03:00")),
        (None, "Unlimited", None),
    ],
)
def test_the_earlier_of_two_limits_counts(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, limit: str | None, end: str | None, allowed: Limit | None
) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    if end is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", end)
    assert time_limit(parse_config(changed(tree, train__time_limit=limit)), now=1000) == allowed


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_stopped_run_says_what_is_saved_as_its_last_word(
    tree: dict[str, Any], capsys: pytest.CaptureFixture[str], world_size: int
) -> None:
    long = changed(tree, train__epochs=10**4, eval__every_steps=10**6, log__every_steps=1)
    ranks = start_ranks(world_size, _main, long)
    run = RunDir(folder(tree))
    assert wait_until(lambda: Traces(run).reached() > 1, ForkedStart(ranks), 60)
    os.kill(ranks[0][0].pid, signal.SIGTERM)
    assert collect(ranks) == [EXIT_STOPPED] * world_size
    step = read_result(run)["step"]
    assert Traces(run).saved() == [step], "it is true"
    words = capsys.readouterr().out.split()
    assert " ".join(words[words.index("stopped") :]) == (
        f"stopped at step {step} of 50000 (SIGTERM); this step is saved in {run.path} "
        "start the same command again to continue"
    )


def test_attempts_are_numbered_and_described(tree: dict[str, Any]) -> None:
    tree = changed(tree, schedule__name="constant")
    train(tree, train__epochs=1)
    run = train(tree, 2)
    attempts = json.loads((run / "provenance.json").read_text())["attempts"]
    assert [(entry["attempt"], entry["world_size"]) for entry in attempts] == [(1, 1), (2, 2)]
    assert attempts[1]["hardware"]["cores"] > 0
    assert read_result(RunDir(run))["attempt"] == 2


def test_a_failed_attempt_leaves_no_lock(tree: dict[str, Any]) -> None:
    assert run_ranks(1, _main, changed(tree, optim__lr=1e25)) == [1]
    assert read_result(RunDir(folder(tree)))["error"] == "nonfinite"
    assert not Path(folder(tree) / "run.lock").exists()
