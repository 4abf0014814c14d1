"""Start a worker: ask for a signal when the agent dies, then become the trainer.

When its agent dies, a worker gets SIGUSR2: it agrees with the others on a step, saves and exits. Without this, a worker could
train on after its supervisor was killed (not every process tracking of SLURM finds it), while the next start of the job works
in the same run folder.
"""

import os
import signal
import sys

from dist_train.system import processes


def main() -> None:
    """Become ``python -m dist_train`` with the same arguments; does not return."""
    processes.die_with_parent(signal.SIGUSR2)
    if os.getppid() == 1:
        sys.exit("the torchrun agent has died")
    os.execv(sys.executable, [sys.executable, "-u", "-m", "dist_train", *sys.argv[1:]])  # noqa: S606 - this Python, with the arguments of this process


if __name__ == "__main__":
    main()
