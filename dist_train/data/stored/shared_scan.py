"""The stored scan of a large data set lies in the memory of a node once: all ranks of the node map it.

The first rank of a node reads the file into memory that has no name (``memfd_create``), and the others open it by the descriptor of
that rank in ``/proc``. A mapping of the file itself would fail in the middle of a run when somebody removes the file on another node.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from dist_train.distributed.group import Dist

T = TypeVar("T")

LARGE = 32 * 2**20
"""Bytes of a stored scan from which on it is shared: about 500,000 images. The index of a smaller one is sent to each rank."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def shared(group: Dist, path: Path, read: Callable[[Path], T | None]) -> T | None:
    """Return what ``read`` finds in a file, on every rank; None on every rank, if one of them cannot read it.

    Args:
        read: map a file with the content of ``path``; return None if it is not the expected one.
    """
    node = _node()
    first = group.gather_objects(node).index(node)
    with _in_memory(group, path, first == group.rank) as mine:
        place = group.gather_objects(mine)[first]
        with group.together():
            found = _read_at(place, read)
            if found is None:
                found = _of_its_own(path, read)
        everywhere = all(group.gather_objects(found is not None))
    return found if everywhere else None


@contextmanager
def _in_memory(group: Dist, path: Path, reads: bool) -> Iterator[str]:
    """Hold a file in memory during the block, if this rank ``reads`` it; yield the path by which others of this node can open it."""
    memory: int | None = None
    try:
        with group.together():
            memory = _loaded(path) if reads else None
        yield "" if memory is None else f"/proc/{os.getpid()}/fd/{memory}"
    finally:
        if memory is not None:
            os.close(memory)


def _read_at(place: str, read: Callable[[Path], T | None]) -> T | None:
    try:
        return read(Path(place)) if stat.S_ISREG(os.stat(place).st_mode) else None
    except OSError:
        return None


def _of_its_own(path: Path, read: Callable[[Path], T | None]) -> T | None:
    """Read the file for this rank alone: a container may hide the processes of the other ranks."""
    memory = _loaded(path)
    if memory is None:
        return None
    try:
        return _read_at(f"/proc/self/fd/{memory}", read)
    finally:
        os.close(memory)


def _loaded(path: Path) -> int | None:
    """Return the descriptor of memory with the content of a file; None if the file cannot be read."""
    try:
        with open(path, "rb") as file:
            memory = os.memfd_create("dist_train-scan")
            with open(memory, "wb", closefd=False) as copy:
                shutil.copyfileobj(file, copy, 2**20)
            return memory
    except (OSError, AttributeError):  # AttributeError: only Linux has such memory
        return None


def _node() -> str:
    try:
        return BOOT_ID.read_text()
    except OSError:
        return os.uname().nodename
