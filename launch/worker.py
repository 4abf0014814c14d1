"""The first moment of a worker: tie its life to its agent's, then become the trainer.

A worker whose agent is gone gets SIGUSR2: it agrees with the others on a step, saves and leaves. Otherwise it
would train on after its supervisor was killed, for not every kind of process tracking in SLURM finds it then,
and the next start of the job would meet it in the same run folder.
"""

import os
import signal
import sys

from dist_train.system import processes


def main() -> None:
    """Does not return: the process goes on as ``python -m dist_train``, with the same arguments."""
    processes.die_with_parent(signal.SIGUSR2)
    if os.getppid() == 1:
        sys.exit("the torchrun agent is gone")
    os.execv(sys.executable, [sys.executable, "-u", "-m", "dist_train", *sys.argv[1:]])


if __name__ == "__main__":
    main()
