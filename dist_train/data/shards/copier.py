"""The process that copies archives to the node's own disk: ``python -m dist_train.data.shards.copier RANK``, with the jobs on stdin.

It writes to the log of the run as this rank does.

A copy gets its name when all its bytes have been read again and compared. An interrupted one goes on: beside it lies a file with the digest of
each of its blocks. Where the disk has no room, copies of other data sets are removed, the oldest first; then it is said once, and training
goes on from the shared copy. An archive that cannot be read is tried again later.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import BinaryIO

from dist_train.data.shards.files import opened, version_of
from dist_train.errors import DataError
from dist_train.system.processes import die_with_parent
from dist_train.system.progress import advance, shown
from dist_train.system.terminal import log_to_console

log = logging.getLogger("dist_train.data.shards.copier")

Job = tuple[str, str, int, int]
"""Archive, copy, size in bytes, time of its last change in ns."""

BLOCK = 8 << 20
SPARE = 0.05
"""Share of the disk that stays free."""
PART, DIGESTS = ".part", ".digests"
DIGEST_BYTES = 32
AGAIN_AFTER_S = 300.0
"""Until the next attempt, if an archive cannot be read, or another process copies it."""


def main() -> None:
    die_with_parent()
    os.nice(10)
    log_to_console(int(sys.argv[1]))
    jobs: list[Job] = [(str(a), str(b), int(size), int(changed)) for a, b, size, changed in json.load(sys.stdin)]
    began = time.monotonic()
    missing = [job[2] - _size_of(job[1] + PART) for job in jobs if not _is_there(job)]
    with shown(f"data.stage: copying {len(missing)} archives", "bytes", sum(missing)):
        copied = copy_all(jobs, repeat(AGAIN_AFTER_S))
    if copied:
        size = sum(job[2] for job in copied) / 1e9
        log.info("data.stage: %s archives (%.2f GB) copied in %.0f s", len(copied), size, time.monotonic() - began)


def copy_all(jobs: Sequence[Job], waits_s: Iterable[float] = ()) -> list[Job]:
    """Copy archives that are missing. Return those that were copied; what goes wrong is said in the log, and nothing is raised.

    Args:
        waits_s: for which time to wait before each further attempt for those that cannot be read, or that another process copies.
    """
    copied: list[Job] = []
    left = [job for job in jobs if not _is_there(job)]
    wanted = {Path(job[1]).name for job in jobs}
    told = ""
    for wait_s in chain((0.0,), waits_s):
        time.sleep(wait_s)
        done, left, problem = _copy_some(left, wanted)
        copied += done
        if problem and not told:
            log.warning("%s", problem)
        told = problem
        if not left:
            break
    return copied


def _copy_some(jobs: Sequence[Job], wanted: set[str]) -> tuple[list[Job], list[Job], str]:
    """Copy archives, up to the first that cannot be read.

    Returns:
        Those that were copied, those to be tried again, and what to tell the user.
    """
    copied: list[Job] = []
    left: list[Job] = []
    for number, job in enumerate(jobs):
        source, copy, size, _ = job
        folder = Path(copy).parent
        if _is_there(job):
            continue
        try:
            if not _make_room(folder, size - _size_of(copy + PART), wanted):
                told = f"{folder} has no room for {source} ({size / 1e9:.2f} GB); this archive and those after it are read from where they are"
                return copied, left, f"data.stage: {told}"
            (copied if _copy(job) else left).append(job)
        except DataError as error:
            told = f"cannot copy {source} to {folder}: {error}; it is read from where it is, and tried again later"
            return copied, [*jobs[number + 1 :], *left, job], f"data.stage: {told}"
        except OSError as error:
            told = f"cannot copy {source} to {folder}: {error.strerror}; it is read from where it is"
            return copied, [], f"data.stage: {told}"
    return copied, left, ""


def _make_room(folder: Path, size: int, wanted: set[str]) -> bool:
    """Return whether an archive fits; remove copies that nobody has asked for here, the oldest first, until it does."""
    others = [path for path in folder.iterdir() if path.name.removesuffix(DIGESTS).removesuffix(PART) not in wanted]
    for path in [*sorted(others, key=lambda path: path.stat().st_ctime), None]:
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize - size >= SPARE * disk.f_blocks * disk.f_frsize:
            return True
        if path is not None:
            path.unlink(missing_ok=True)
    return False


def _is_there(job: Job) -> bool:
    _, copy, size, changed_ns = job
    try:
        found = os.stat(copy)
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (size, changed_ns)


def _size_of(path: str) -> int:
    return os.stat(path).st_size if os.path.exists(path) else 0


def _copy(job: Job) -> bool:
    """Copy one archive. Return False if another process copies it now, or it has changed since it was scanned.

    Raises:
        DataError: the archive cannot be read; the part that was copied stays.
        OSError: the copy cannot be written.
    """
    source, copy, size, changed_ns = job
    part, digests = copy + PART, copy + PART + DIGESTS
    with opened(source) as archive, open(part, "a+b") as file, open(digests, "a+b") as known:
        if not _is_mine(file, part):
            return False
        try:
            if not _is_there(job) and version_of(source) == (size, changed_ns):
                _fill(file, known, archive)
                if _equal_blocks(file, known)[1] and version_of(source) == (size, changed_ns):
                    _finish(job)
                    return True
        except OSError:
            _remove(part, digests)
            raise
        _remove(part, digests)
    return False


def _remove(*paths: str) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)


def _is_mine(file: BinaryIO, part: str) -> bool:
    """Lock a part. Return False if another process has locked it, or has just finished it: then the name leads to another file.

    Raises:
        OSError: the file system has no locks, such as Lustre without the mount option ``flock``.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(part))
    except (BlockingIOError, PermissionError, FileNotFoundError):
        return False


def _fill(file: BinaryIO, known: BinaryIO, archive: BinaryIO) -> None:
    """Write the blocks that a part lacks, and their digests; a block that has another digest, and those after it, are written again."""
    blocks, _ = _equal_blocks(file, known)
    size = min(blocks * BLOCK, os.fstat(file.fileno()).st_size)
    file.truncate(size)
    known.truncate(blocks * DIGEST_BYTES)
    archive.seek(size)
    while block := archive.read(BLOCK):
        file.write(block)
        known.write(_digest(block))
        file.flush()
        known.flush()
        advance(len(block))
    os.fsync(file.fileno())


def _equal_blocks(file: BinaryIO, known: BinaryIO) -> tuple[int, bool]:
    """Return how many blocks from the beginning have the digests that are known, and whether all have."""
    file.seek(0)
    known.seek(0)
    count = 0
    while block := file.read(BLOCK):
        if known.read(DIGEST_BYTES) != _digest(block):
            return count, False
        count += 1
    return count, not known.read(1)


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=DIGEST_BYTES).digest()


def _finish(job: Job) -> None:
    _, copy, _, changed_ns = job
    part = copy + PART
    os.utime(part, ns=(changed_ns, changed_ns))
    if os.stat(part).st_mtime_ns != changed_ns:
        raise OSError(errno.ENOTSUP, "its file system does not keep times to the nanosecond")
    os.replace(part, copy)
    _remove(part + DIGESTS)


if __name__ == "__main__":
    main()
