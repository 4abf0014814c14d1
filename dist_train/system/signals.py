"""The stop signals: who hears them, who ignores them, and how their handlers are restored after a training."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def heard_signals() -> list[signal.Signals]:
    """Return the stop signals that a training hears: all, but for SIGHUP and SIGQUIT where its start ignores them (nohup)."""
    ignored = {number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_IGN}
    deaf = ignored & {signal.SIGHUP, signal.SIGQUIT}
    if signal.SIGINT in ignored:
        # A script starts a background command so, against the keys of the terminal. A signal by kill is meant for it.
        deaf -= {signal.SIGQUIT}
    return [number for number in STOP_SIGNALS if number not in deaf]


def note_signals() -> list[str]:
    """Install handlers of the stop signals. Return the list to which they add the name of each signal."""
    notes: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        notes.append(signal.Signals(number).name)

    for number in heard_signals():
        signal.signal(number, note)
    return notes


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


def end_at_interrupt() -> None:
    """Let Ctrl-C end this process at once, without a traceback of the imports that it interrupts."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def wakeup_pipe() -> Iterator[tuple[int, int]]:
    """Yield the two ends of a pipe, from which another thread can read the number of each signal, one byte each.

    The main thread's handlers wait until it runs Python code; this does not. Call it in the main thread.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _writers.append(writer)
    try:
        yield reader, writer
    finally:
        _writers.remove(writer)
        if in_main_thread():
            signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


_writers: list[int] = []


def _forget_wakeup_pipe() -> None:
    """Forget the pipe in a forked process, whose signals are its own."""
    if _writers:
        with suppress(ValueError):
            signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget_wakeup_pipe)


def ignore_stop_signals() -> None:
    """Ignore the stop signals in a loader process: a Ctrl-C for the whole process group must not kill it before the save."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def hear_stop_signals() -> None:
    """Undo that whoever started this process made it ignore the stop signals."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def no_error_for_dead_children() -> Iterator[None]:
    """Remove torch's SIGCHLD handler at the end of the block.

    The first ``DataLoader`` with processes sets it. It raises in whatever code is running while a dead loader process is on its
    list (``torch.utils.data._utils.signal_handling``). A handler of the program stays.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if in_main_thread():
            torchs = getattr(before, "__module__", "").startswith("torch.")
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None or torchs else before)
