"""Limits of the machine are told before the first step, with the keys that need less."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from dist_train.data.loading import room
from dist_train.data.loading.room import Needs, check_room, describe, needs, no_room_for_processes
from dist_train.errors import ConfigError
from tests.support.ranks import run_ranks
from tests.support.shm import CAN_MOUNT, small_shm

SMALL = needs(workers=1, prefetch=2, batch_bytes=100 * 8)


def test_what_is_needed_grows_with_processes_batches_and_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    one = needs(workers=4, prefetch=4, batch_bytes=224 * 224 * 3 * 64)
    assert one.batches == 4 * 5 * 64 * 224 * 224 * 3
    assert one.processes == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    two = needs(workers=4, prefetch=4, batch_bytes=224 * 224 * 3 * 64)
    assert (two.batches, two.processes, two.files) == (2 * one.batches, 16, one.files)


def test_no_processes_need_nothing() -> None:
    none = needs(workers=0, prefetch=4, batch_bytes=100 * 8)
    assert check_room(none) is None
    assert "`data.workers` is 0" in describe(none)


def test_enough_of_everything_is_silent() -> None:
    assert check_room(SMALL) is None
    assert describe(SMALL).startswith("loader: 1 processes per rank")


def test_more_memory_than_the_machine_has_is_refused() -> None:
    huge = needs(workers=4, prefetch=4, batch_bytes=10**9 * 10**5)
    with pytest.raises(
        ConfigError, match=r"need about .* GB of memory.*lower `data.workers` \(4\), `data.prefetch` \(4\)"
    ):
        check_room(huge)


def test_less_memory_than_is_free_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 1000.0)
    assert "0.00 GB are free: if they are killed, lower `data.workers`" in str(check_room(SMALL))


def test_a_limit_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "processes_left", lambda: 1)
    with pytest.raises(ConfigError, match=r"2 loader processes are more than the 1 .*pids.max.*--pids-limit"):
        check_room(SMALL)


def _with_open_files(soft: int, hard: int) -> Any:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        check_room(SMALL)
    except ConfigError as error:
        return str(error)
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def test_a_low_limit_of_open_files_is_raised_or_refused() -> None:
    ((soft, hard),) = run_ranks(1, _with_open_files, 40, 1000)
    assert 40 < soft < hard == 1000
    (told,) = run_ranks(1, _with_open_files, 32, 32)
    assert "open files, and the limit is 32: raise it (ulimit -n), or lower `data.workers` (1)" in told


def _with_shm(size: str, needed: Needs) -> str | None:
    small_shm(size)
    try:
        return check_room(needed)
    except ConfigError as error:
        return str(error)


@pytest.mark.skipif(not CAN_MOUNT, reason="needs a private mount, which root may make")
def test_shared_memory_needs_room_for_semaphores_only() -> None:
    batches_of_gigabytes = needs(workers=1, prefetch=4, batch_bytes=224 * 224 * 3 * 200)
    assert run_ranks(1, _with_shm, "1m", batches_of_gigabytes) == [None]
    (told,) = run_ranks(1, _with_shm, "8k", SMALL)
    assert "of /dev/shm for semaphores, but it has 8 kB free: make room (docker run --shm-size=64m), or lower" in str(
        told
    )


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHM", tmp_path / "absent")
    with pytest.raises(ConfigError, match="it is not a folder that this user can write to"):
        check_room(SMALL)


def test_the_error_of_a_start_names_the_limits_and_the_key() -> None:
    error = no_room_for_processes(4, BlockingIOError(11, os.strerror(11)))
    assert "cannot start 4 loader processes: Resource temporarily unavailable" in str(error)
    assert error.of_one_rank
    assert "`data.workers`" in str(error)
