"""Stop signals: ignored where a rank's processes must live on, and given back to a program."""

import os
import signal
import subprocess
import threading

import pytest

from dist_train.system.signals import (
    STOP_SIGNALS,
    deaf_to_children,
    ignore_stop_signals,
    restored_handlers,
    say_nothing_of_dead_children,
)
from tests.support.ranks import run_ranks


def test_handlers_are_given_back_after_an_error_too() -> None:
    def mine(*_: object) -> None: ...

    signal.signal(signal.SIGUSR1, mine)
    try:
        before = [signal.getsignal(number) for number in STOP_SIGNALS]
        with pytest.raises(KeyError), restored_handlers():
            ignore_stop_signals()
            raise KeyError
        assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
        assert before[STOP_SIGNALS.index(signal.SIGUSR1)] is mine
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_another_thread_may_use_the_block() -> None:
    errors: list[BaseException] = []

    def use() -> None:
        try:
            with restored_handlers():
                pass
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []


def _ignoring() -> bool:
    ignore_stop_signals()
    for number in STOP_SIGNALS:
        os.kill(os.getpid(), number)
    return True


def test_ignored_signals_do_nothing() -> None:
    assert run_ranks(1, _ignoring) == [True]


def _child_dies_after_the_end() -> str:
    def complain(*_: object) -> None:
        raise RuntimeError("a loader process was killed")

    signal.signal(signal.SIGCHLD, complain)
    say_nothing_of_dead_children()
    child = os.fork()
    if child == 0:
        os._exit(1)
    os.waitpid(child, 0)
    return "nothing was said"


def test_a_child_that_dies_at_exit_raises_nothing() -> None:
    assert run_ranks(1, _child_dies_after_the_end) == ["nothing was said"]


def _children_that_end() -> list[str]:
    def raising(*_: object) -> None:
        raise RuntimeError("a child has ended")

    signal.signal(signal.SIGCHLD, raising)
    found = []
    with deaf_to_children():
        subprocess.run(["true"], check=True)
        found.append("deaf")
    try:
        subprocess.run(["true"], check=True)
    except RuntimeError as error:
        found.append(str(error))
    return found


def test_the_end_of_a_child_raises_nothing_in_the_block() -> None:
    assert run_ranks(1, _children_that_end) == [["deaf", "a child has ended"]]
