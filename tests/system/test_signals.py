"""Stop signals: ignored where a rank's processes must live on, and given back to a program."""

import os
import signal
import subprocess
import threading
import time

import pytest

from dist_train.system.signals import (
    STOP_SIGNALS,
    children_heard_later,
    deaf_to_children,
    end_at_interrupt,
    hear_stop_signals,
    heard_signals,
    ignore_stop_signals,
    restored_handlers,
    say_nothing_of_dead_children,
    wakeup_pipe,
)
from tests.support.ranks import RankFailure, run_ranks


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


def _children_heard_later(first_handler: bool) -> list[str]:
    """What is raised if a child ends in the block, and after it; the handler is there before, or is set in the block."""
    said: list[str] = []

    def raising(*_: object) -> None:
        said.append("handler")
        raise RuntimeError("a child has ended")

    if not first_handler:
        signal.signal(signal.SIGCHLD, raising)
    try:
        with children_heard_later():
            subprocess.run(["true"], check=True)
            said.append("in the block")
    except RuntimeError as error:
        said.append(str(error))
    assert signal.getsignal(signal.SIGCHLD) == (signal.SIG_DFL if first_handler else raising)
    return said


def test_a_child_that_ends_in_the_block_is_heard_after_it() -> None:
    assert run_ranks(1, _children_heard_later, False) == [["in the block", "handler", "a child has ended"]]
    assert run_ranks(1, _children_heard_later, True) == [["in the block"]]


def _handler_set_in_the_block() -> list[str]:
    """torch sets its handler at the first loader, and keeps the program's own one to call it."""
    said: list[str] = []
    signal.signal(signal.SIGCHLD, lambda *_: said.append("the program's own"))
    with children_heard_later():
        before = signal.getsignal(signal.SIGCHLD)
        signal.signal(signal.SIGCHLD, lambda *args: [said.append("torch's"), before(*args)])
    subprocess.run(["true"], check=True)
    return said


def test_a_handler_that_is_set_in_the_block_stays_and_calls_the_one_before() -> None:
    assert run_ranks(1, _handler_set_in_the_block) == [["torch's", "the program's own"]]


def _heard(ignored: list[signal.Signals]) -> list[str]:
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    return sorted(number.name for number in set(STOP_SIGNALS) - set(heard_signals()))


@pytest.mark.parametrize(
    ("ignored", "deaf"),
    [
        ([], []),
        ([signal.SIGHUP], ["SIGHUP"]),
        ([signal.SIGQUIT], ["SIGQUIT"]),
        ([signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2], []),
        ([signal.SIGINT, signal.SIGQUIT], []),
        ([signal.SIGINT, signal.SIGQUIT, signal.SIGHUP], ["SIGHUP"]),
    ],
    ids=["a terminal", "nohup", "SIGQUIT alone", "a supervisor's agent", "& in a script", "nohup & in a script"],
)
def test_signals_that_the_start_ignores(ignored: list[signal.Signals], deaf: list[str]) -> None:
    assert run_ranks(1, _heard, ignored) == [deaf]


def _interrupted_import() -> None:
    end_at_interrupt()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def test_an_interrupt_of_the_imports_ends_at_once_without_a_traceback() -> None:
    with pytest.raises(RankFailure, match="died with -2"):
        run_ranks(1, _interrupted_import)


def _signal_in_c() -> list[int]:
    """What another thread reads while the main thread runs no handler."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    with wakeup_pipe() as (reader, _):
        os.kill(os.getpid(), signal.SIGUSR1)
        return list(os.read(reader, 10))


def test_another_thread_sees_the_signals() -> None:
    assert run_ranks(1, _signal_in_c) == [[signal.SIGUSR1]]


def _hears_again() -> list[bool]:
    ignore_stop_signals()
    hear_stop_signals()
    return [signal.getsignal(number) == signal.SIG_DFL for number in STOP_SIGNALS]


def test_a_started_process_can_hear_what_its_starter_ignores() -> None:
    assert run_ranks(1, _hears_again) == [[True] * len(STOP_SIGNALS)]
