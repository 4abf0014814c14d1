"""Ranks wait for work of any length, as long as the one that works gives signs of life."""

import os
import re
import signal
import threading
import time
from typing import Any

import pytest

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import joined
from dist_train.distributed.heartbeat import Heartbeat, heard, sign_of_life
from dist_train.errors import CommError, DataError
from tests.support.ranks import RankFailure, collect, run_ranks, start_ranks


def _busy(seconds: float) -> str:
    """Work that the kernel answers slowly, as a scan of a cold file system."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
    return "done"


def _refuse(seconds: float) -> str:
    _busy(seconds)
    raise DataError("nothing there")


def _long_work(timeout_s: int, seconds: float) -> dict[str, Any]:
    heard_of: list[float] = []
    with joined(DistributedConfig(timeout_s=timeout_s)) as group, heard(lambda: heard_of.append(time.monotonic())):
        found: dict[str, Any] = {"main": group.from_main(lambda: _busy(seconds))}
        with group.together():
            _busy(seconds if group.rank == 1 else seconds / 2 if group.rank == 2 else 0)
        with pytest.raises(DataError, match="nothing there"):
            group.from_main(lambda: _refuse(seconds))
        with pytest.raises(DataError, match="nothing there"), group.together():
            if group.rank == 0:
                _refuse(seconds)
        found["in step"] = group.gather_objects(group.rank)
    return found | {"heard": len(heard_of) > 4 * seconds / timeout_s}


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_work_may_take_longer_than_the_timeout(world_size: int) -> None:
    expected = {"main": "done", "in step": list(range(world_size)), "heard": True}
    assert run_ranks(world_size, _long_work, 1, 1.6) == [expected] * world_size


def _stuck(method: str) -> str:
    """Rank 0 waits for something that does not answer, until the others have given up."""
    never = threading.Event()
    with joined(DistributedConfig(timeout_s=1)) as group:
        try:
            if method == "from_main":
                group.from_main(lambda: never.wait(6))
            else:
                with group.together():
                    if group.rank == 0:
                        never.wait(6)
                    elif group.rank == 2:
                        _busy(6)  # it gives signs of life, and learns of the other when it is done
        except CommError as error:
            return str(error)
    return "went on"


@pytest.mark.parametrize(
    ("method", "world_size"), [("from_main", 2), pytest.param("together", 3, marks=pytest.mark.slow)]
)
def test_a_stuck_rank_is_an_error_that_says_where(method: str, world_size: int) -> None:
    words = run_ranks(world_size, _stuck, method)
    assert len(set(words)) == 1, words
    assert re.match(r"rank 0 is stuck in wait \(threading.py:\d+\): .* for 1 s", words[0]), words


def _scan_and_count() -> float:
    with joined(DistributedConfig(timeout_s=2)) as group:
        began = time.monotonic()
        try:
            group.from_main(lambda: _busy(30))
        except RuntimeError:
            return time.monotonic() - began
    return -1


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGSTOP])
def test_a_rank_that_dies_or_freezes_while_it_works_is_missed_soon(number: signal.Signals) -> None:
    ranks = start_ranks(2, _scan_and_count)
    time.sleep(4)
    os.kill(ranks[0][0].pid, number)
    with pytest.raises(RankFailure, match="rank 0") as failure:
        _collect_other(ranks, number)
    assert "rank 1" not in str(failure.value)


def _collect_other(ranks: Any, number: signal.Signals) -> None:
    if number == signal.SIGSTOP:
        (process, _, _), (_, other, _) = ranks
        assert other.poll(20), "the other rank has given up"
        process.kill()
    waited = collect(ranks)
    assert waited


def test_the_error_of_a_beat_is_raised_when_the_work_is_done() -> None:
    def beat(alive: bool) -> None:
        raise ConnectionError("the others are gone")

    done = []
    with pytest.raises(ConnectionError), Heartbeat(0.1, beat):
        done.append(_busy(0.3))
    assert done == ["done"]


def test_an_error_of_the_work_does_not_wait_for_the_beat() -> None:
    leave = threading.Event()
    began = time.monotonic()
    with pytest.raises(KeyError), Heartbeat(0.1, lambda alive: bool(leave.wait(20)) and None):
        time.sleep(0.2)
        raise KeyError
    assert time.monotonic() - began < 10
    leave.set()


def test_listeners_hear_only_while_their_block_runs() -> None:
    told: list[str] = []
    with heard(lambda: told.append("beat")):
        sign_of_life()
    sign_of_life()
    assert told == ["beat"]
