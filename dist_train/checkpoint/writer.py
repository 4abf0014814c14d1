"""A process that writes checkpoints while training continues: ``python -m dist_train.checkpoint.writer FD``.

The trainer copies its tensors into shared memory (a memfd, because /dev/shm has a size limit) and sends a job over a
pipe; the writer answers when the checkpoint is on disk. This is a process, not a thread, because a thread would hold the
trainer's interpreter lock (GIL). It copies only bytes, so it does not import torch. It starts before the first step, with all
that it will need imported: from then on the code on disk does not matter.
"""

import mmap
import pickle
import sys
from functools import partial

from dist_train.checkpoint.manifest import Job
from dist_train.checkpoint.writing import Piece, answer_of
from dist_train.system.processes import die_with_parent


def main(memory_fd: int) -> None:
    """Answer that the writer is ready; then read jobs from stdin until ``None``, and answer each on stdout.

    An answer is an empty line, or the error. The trainer starts this process with the stop signals ignored.
    """
    die_with_parent()  # a writer must not write after its trainer has died
    _answer("")
    while True:
        try:
            job: Job | None = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent, by a pipe that nobody else has
        except EOFError:
            return
        if job is None:
            return
        _answer(answer_of(job, partial(_payload, memory_fd, job.payload_bytes)))


def _payload(memory_fd: int, size: int, begin: int, end: int) -> list[Piece]:
    if begin == end:
        return []
    return [memoryview(mmap.mmap(memory_fd, size, prot=mmap.PROT_READ))[begin:end]]


def _answer(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
