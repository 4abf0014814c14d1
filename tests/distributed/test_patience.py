"""Ranks that were suspended for longer than their timeout go on; one that hangs is still missed."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.stop import StopRequest
from dist_train.distributed.watchdog import Watchdog
from dist_train.errors import CommError
from dist_train.system.machine.clock import ticking
from dist_train.system.processes import leave_at_once
from tests.support.ranks import Ranks, collect, run_ranks, start_ranks

TIMEOUT_S = 2


def _ends(why: str) -> None:
    leave_at_once(9)


def _wait_for_rank_1(folder: Path) -> str:
    """Rank 0 waits in a collective while rank 1 works for 1.5 s."""
    with ticking(), joined(DistributedConfig(timeout_s=TIMEOUT_S)) as group:
        dog = Watchdog(TIMEOUT_S, alone=False, exit_now=_ends)
        with StopRequest(group, timeout_s=TIMEOUT_S, watchdog=dog) as stop:
            stop.begin()
            for _ in range(4):
                assert not stop.agreed()
            (folder / str(group.rank)).touch()
            end = time.thread_time() + 1.5
            while group.rank == 1 and time.thread_time() < end:
                pass
            return str(group.sum(torch.ones(1)).item())


def _begun(ranks: Ranks, folder: Path) -> None:
    give_up_at = time.time() + 60
    while not all((folder / str(number)).exists() for number in range(len(ranks))):
        assert time.time() < give_up_at
        time.sleep(0.05)


def test_ranks_that_were_suspended_for_longer_than_the_timeout_go_on(tmp_path: Path) -> None:
    ranks = start_ranks(2, _wait_for_rank_1, tmp_path)
    _begun(ranks, tmp_path)
    for process, _, _ in ranks:
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(TIMEOUT_S + 1)
    for process, _, _ in ranks:
        os.kill(process.pid, signal.SIGCONT)
    assert collect(ranks) == ["2.0", "2.0"]


@pytest.mark.slow
def test_a_rank_that_waits_for_a_frozen_one_is_ended(tmp_path: Path) -> None:
    ranks = start_ranks(2, _wait_for_rank_1, tmp_path)
    _begun(ranks, tmp_path)
    os.kill(ranks[1][0].pid, signal.SIGSTOP)
    ranks[0][0].join(60)
    assert ranks[0][0].exitcode == 9
    ranks[1][0].kill()
    with pytest.raises(AssertionError, match="rank 0"):
        collect(ranks, timeout_s=1, quiet=True)


def _own_limits() -> list[bool]:
    """Whether a collective that waits for rank 1 ends by itself: before the training, in a save, after the training."""
    found = []
    with joined(DistributedConfig(timeout_s=1)) as group:
        dog = Watchdog(60, alone=False, exit_now=_ends)
        with StopRequest(group, watchdog=dog) as stop:
            stop.begin()
            with stop.patience():
                found.append(_gives_up(group))
    return found


def _gives_up(group: Dist) -> bool:
    if group.rank == 1:
        time.sleep(2)
        return True
    try:
        group.sum(torch.ones(1))
    except RuntimeError as error:
        return "Timed out" in str(error)
    return False


def test_in_a_save_collectives_have_their_own_limit() -> None:
    assert run_ranks(2, _own_limits) == [[True], [True]]


def test_several_ranks_that_hang_have_lost_another_one() -> None:
    assert isinstance(StopRequest(Dist(0, 0, 2, torch.device("cpu"), "ddp")).hang(), CommError)
    assert not isinstance(StopRequest(Dist.alone()).hang(), CommError)
