"""Digests of checkpoint files. A manifest names the algorithm, so that the files of older versions are verified too.

Without torch: the writer imports this module.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from blake3 import blake3

ALGORITHM = "blake3"
"""The algorithm of new checkpoints: on one core 3.5 times as fast as SHA-256, and several cores can share a file."""
BLOCK = 2**20  # stays in the cache of a core between the read and the digest
MAX_THREADS = 4


class Digest(Protocol):
    """What takes bytes and returns their digest."""

    def update(self, content: memoryview, /) -> object: ...

    def hexdigest(self) -> str: ...


ALGORITHMS: dict[str, Callable[[int], Digest]] = {
    "blake3": lambda threads: blake3(max_threads=threads),
    "sha256": lambda threads: hashlib.sha256(),
}
"""By name: a function from a number of threads to a new digest."""


def new_digest() -> Digest:
    """Return a digest of the algorithm of new checkpoints, which computes in the calling thread."""
    return ALGORITHMS[ALGORITHM](1)


def digest_of(path: Path, algorithm: str) -> str:
    """Return the digest of a file's bytes, in hex.

    Raises:
        OSError: the disk fails. (From a memory map of the file that would be a SIGBUS.)
    """
    digest = ALGORITHMS[algorithm](min(MAX_THREADS, len(os.sched_getaffinity(0))))
    block = memoryview(bytearray(BLOCK))
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()
