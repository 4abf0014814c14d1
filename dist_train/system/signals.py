"""The stop signals, and processes that ignore them."""

import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def ignore_stop_signals() -> None:
    """For loader processes: a signal to the whole process group must not kill them before the rank has saved."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def say_nothing_of_dead_children() -> None:
    """At exit: torch raises, in whatever runs just then, when a loader process is killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
