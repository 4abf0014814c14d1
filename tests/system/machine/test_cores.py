"""The cores of this machine are shared among its ranks."""

import math
import os

import pytest

from dist_train.system.machine import cores
from dist_train.system.machine.cores import cores_per_rank, share_with, usable_cores


def test_ranks_share_what_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    allowed = usable_cores()
    assert cores_per_rank() == allowed
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_per_rank() == max(1, allowed // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert cores_per_rank() == 1


@pytest.mark.parametrize(
    ("limit", "alone", "of_two"), [(math.inf, 8, 4), (9, 8, 4), (5, 5, 2), (1.5, 2, 1), (0.5, 1, 1)]
)
def test_a_container_may_use_fewer_cores_than_it_may_run_on(
    monkeypatch: pytest.MonkeyPatch, limit: float, alone: int, of_two: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)})
    monkeypatch.setattr(cores, "cpu_limit", lambda: limit)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert (usable_cores(), cores_per_rank()) == (alone, of_two)


def test_ranks_on_cores_of_their_own_share_the_time_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(4)})
    monkeypatch.setattr(cores, "cpu_limit", lambda: 6.0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    share_with(1)
    try:
        assert cores_per_rank() == 3
    finally:
        share_with(None)
