"""The first process in a container: become the torchrun agent.

A container's runtime does not hand on what the supervisor has set for its child: programs in Go, such as apptainer, replace
ignored signals by their own handlers, and none hands on the signal at a parent's death. So this process sets both again.
"""

import os
import signal
import sys

from dist_train.system import processes
from dist_train.system.signals import STOP_SIGNALS


def main() -> None:
    """Become ``python ARGUMENTS``, by this Python; does not return."""
    for number in STOP_SIGNALS:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
    processes.die_with_parent(signal.SIGKILL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - this Python, with the arguments of this process


if __name__ == "__main__":
    main()
