"""The stop signals: ignore them in loader processes, and restore their handlers after a training."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def in_main_thread() -> bool:
    """Return whether Python lets this thread set signal handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Restore the handlers of the stop signals after the block. Outside the main thread no code can change them."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        if in_main_thread():
            for number, handler in before.items():
                # None: the handler was not set by Python, and Python cannot set it again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_stop_signals() -> None:
    """Ignore the stop signals in a loader process: a Ctrl-C for the whole process group must not kill it before the save."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def deaf_to_children() -> Iterator[None]:
    """Ignore the end of child processes in the block.

    torch's SIGCHLD handler raises, in whatever code is running, while a killed loader process is on its list.
    """
    before = signal.getsignal(signal.SIGCHLD)
    if in_main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        if in_main_thread():
            signal.signal(signal.SIGCHLD, before)


def say_nothing_of_dead_children() -> None:
    """Ignore the death of loader processes at exit: torch's SIGCHLD handler would raise an error in the running code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
