"""The stop signals: ignored in the processes of a rank, and given back to a program that trains in between."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def in_main_thread() -> bool:
    """Whether Python lets this thread set signal handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def restored_handlers() -> Iterator[None]:
    """A block after which the stop signals are handled as before it. Outside the main thread nothing can change them."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        if in_main_thread():
            for number, handler in before.items():
                # None: a handler that was not set from Python. It cannot be set from Python either.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_stop_signals() -> None:
    """For loader processes: a signal to the whole process group must not kill them before the rank has saved."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def say_nothing_of_dead_children() -> None:
    """At exit: torch raises, in whatever runs just then, when a loader process is killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
