"""The cores of this machine are shared among its ranks."""

import os

import pytest

from dist_train.system.machine.cores import cores_per_rank


def test_ranks_share_what_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    allowed = len(os.sched_getaffinity(0))
    assert cores_per_rank() == allowed
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores_per_rank() == max(1, allowed // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert cores_per_rank() == 1
