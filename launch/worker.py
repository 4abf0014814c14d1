"""The start of a worker: get a signal when the agent dies, then become the trainer.

A worker whose agent is gone gets SIGUSR2: it agrees with the others on a step, saves and exits. Otherwise it would go
on training after its supervisor was killed, because not every process tracking of SLURM finds it then, and the next
start of the job would work in the same run folder.
"""

import os
import signal
import sys

from dist_train.system import processes


def main() -> None:
    """Become ``python -m dist_train`` with the same arguments; does not return."""
    processes.die_with_parent(signal.SIGUSR2)
    if os.getppid() == 1:
        sys.exit("the torchrun agent is gone")
    os.execv(sys.executable, [sys.executable, "-u", "-m", "dist_train", *sys.argv[1:]])


if __name__ == "__main__":
    main()
