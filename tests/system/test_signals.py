"""Stop signals: ignored where a rank's processes must live on, and given back to a program."""

import os
import signal
import subprocess
import threading
import time
from typing import Any

import pytest
import torch

from dist_train.system.signals import (
    STOP_SIGNALS,
    end_at_interrupt,
    hear_stop_signals,
    heard_signals,
    ignore_stop_signals,
    no_error_for_dead_children,
    restored_handlers,
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


def _raising(*_: object) -> None:
    raise RuntimeError("a child has ended")


def _said_of_a_dead_child(before: Any, in_the_block: Any) -> bool:
    """Return whether a handler hears the end of a child after the block."""
    signal.signal(signal.SIGCHLD, before)
    with no_error_for_dead_children():
        signal.signal(signal.SIGCHLD, in_the_block)
    try:
        subprocess.run(["true"], check=True)
    except RuntimeError:
        return True
    return False


def test_a_handler_that_is_set_in_the_block_does_not_stay() -> None:
    assert run_ranks(1, _said_of_a_dead_child, signal.SIG_DFL, _raising) == [False]


def test_the_programs_own_handler_stays() -> None:
    assert run_ranks(1, _said_of_a_dead_child, _raising, signal.SIG_IGN) == [True]


def _with_torchs_handler() -> bool:
    torch.utils.data._utils.signal_handling._set_SIGCHLD_handler()  # as a loader of the program's own
    return _said_of_a_dead_child(signal.getsignal(signal.SIGCHLD), signal.SIG_DFL) or callable(
        signal.getsignal(signal.SIGCHLD)
    )


def test_a_handler_of_torch_from_before_does_not_stay() -> None:
    assert run_ranks(1, _with_torchs_handler) == [False]


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
