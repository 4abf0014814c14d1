"""A second process does half of the work, and nothing but the time shows it."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkProcess

import pytest

from dist_train.system import progress
from dist_train.system.machine import second_core
from dist_train.system.machine.second_core import PAYS_FROM, PAYS_TO, in_halves
from dist_train.system.progress import advance, advanced, shown

MANY = PAYS_FROM


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_core, "usable_cores", lambda: 2)


def doubled(items: Sequence[int]) -> tuple[int, list[int]]:
    return os.getpid(), [2 * item for item in items]


def test_two_processes_do_a_half_each() -> None:
    (one, first), (other, second) = in_halves(doubled, range(5), MANY)
    assert (first, second) == ([0, 2], [4, 6, 8])
    assert one == os.getpid() != other
    assert not multiprocessing.active_children()


def test_a_result_may_be_larger_than_a_pipe() -> None:
    halves = in_halves(lambda some: b"".join(some), [bytes(10**6)] * 4, MANY)
    assert [*map(len, halves)] == [2 * 10**6] * 2


def test_where_it_does_not_pay_one_process_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [(os.getpid(), [0, 2])]
    assert in_halves(doubled, range(2), MANY - 1) == alone
    assert in_halves(doubled, range(2), PAYS_TO + 1) == alone
    assert in_halves(doubled, [1], MANY) == [(os.getpid(), [2])]
    assert in_halves(doubled, [], MANY) == [(os.getpid(), [])]
    with monkeypatch.context() as patch:
        patch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
        assert in_halves(doubled, range(2), MANY) == alone
    monkeypatch.setattr(second_core, "usable_cores", lambda: 1)
    assert in_halves(doubled, range(2), MANY) == alone


@pytest.mark.parametrize("faulty", [0, 3])
def test_an_error_is_raised_here_and_no_process_stays(
    faulty: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        in_halves(lambda some: [1 / (item - faulty) for item in some], range(4), MANY)
    assert not multiprocessing.active_children()
    assert caplog.messages == []
    assert capfd.readouterr().err == ""


def test_after_a_killed_process_this_one_does_its_half(caplog: pytest.LogCaptureFixture) -> None:
    here = os.getpid()

    def killed_elsewhere(items: Sequence[int]) -> list[int]:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return [*items]

    assert in_halves(killed_elsewhere, range(4), MANY) == [[0, 1], [2, 3]]
    assert "the system has ended a second process" in caplog.text


def test_without_a_free_process_this_one_does_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(process: ForkProcess) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(ForkProcess, "start", refused)
    assert [found for _, found in in_halves(doubled, range(2), MANY)] == [[0], [2]]
    assert "cannot start a second process (Resource temporarily unavailable)" in caplog.text


def test_a_stop_signal_for_all_processes_does_not_end_the_second() -> None:
    def stopped(items: Sequence[int]) -> int:
        if items[0] > 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return os.getpid()

    assert len({*in_halves(stopped, range(2), MANY)}) == 2


def test_what_both_advance_is_shown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dist_train")
    monkeypatch.setattr(progress, "REPORT_EVERY_S", -1.0)

    def counted(items: Sequence[int]) -> None:
        for item in items:
            advance(item)

    before = advanced()
    with shown("scanning /data", "files"):
        in_halves(counted, [1, 10, 100, 1000], MANY)
    assert caplog.messages[-1] == "scanning /data: 1,111 files after 0 s"
    assert advanced() == before + 3
