"""What ``dist_train/__main__.py`` takes from ``preempt``, without torch."""

import signal


def ignore_stop_signals() -> None:
    """As the real one."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
