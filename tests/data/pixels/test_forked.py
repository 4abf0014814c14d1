"""Work in forked processes: its counts, its errors, and none of them left."""

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Generator

import pytest

from dist_train.data.pixels import forked
from dist_train.data.pixels.forked import in_processes
from dist_train.errors import ConfigError, DataError


def three() -> Generator[int]:
    yield from (1, 2, 3)


@pytest.fixture(autouse=True)
def no_processes() -> Generator[None]:
    before = multiprocessing.active_children()
    yield
    assert set(multiprocessing.active_children()) <= set(before)


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_the_last_count_of_each_arrives(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(in_processes(three, processes)).count(3) == max(1, processes)
    monkeypatch.setattr(forked, "REPORT_EVERY_S", 0.0)
    assert list(in_processes(three, processes))[-1] == 3


@pytest.mark.parametrize("processes", [0, 2])
def test_an_error_arrives_and_ends_the_others(processes: int) -> None:
    def fails() -> Generator[int]:
        yield 1
        raise ConfigError("`data.cache`: cannot write")

    with pytest.raises(ConfigError, match="cannot write"):
        list(in_processes(fails, processes))


def test_a_killed_process_is_an_error() -> None:
    def killed() -> Generator[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield 1

    with pytest.raises(DataError, match=r"ended with exit code -9 .*lower `data.workers`"):
        list(in_processes(killed, 2))


def test_another_error_prints_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def wrong() -> Generator[int]:
        yield 1 // 0

    with pytest.raises(DataError, match="ended with exit code 1"):
        list(in_processes(wrong, 1))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_closing_it_ends_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "REPORT_EVERY_S", 0.0)

    def endless() -> Generator[int]:
        while True:
            yield 1
            time.sleep(0.01)

    counts = in_processes(endless, 2)
    assert next(counts) == 1
    counts.close()


def test_stop_signals_do_not_end_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C reaches the whole process group: the rank decides."""

    def signalled() -> Generator[int]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        yield 7

    assert list(in_processes(signalled, 1)) == [7]


def test_too_few_processes_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``ulimit -u``, which root does not heed."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(
        DataError, match=r"cannot start 2 processes .*Resource temporarily unavailable; .*`data.workers`"
    ):
        list(in_processes(three, 2))
