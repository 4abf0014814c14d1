"""The process that copies archives to the node's own disk: ``python -m dist_train.data.shards.copier RANK``, with the jobs on stdin.

It writes to the log of the run as this rank does.

A copy gets its name when all its bytes have been read again and compared. Where the disk has no room, copies of other data sets are
removed, the oldest first; then it is said once, and training goes on from the shared copy.
"""

import fcntl
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
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
PART = ".part"


def main() -> None:
    die_with_parent()
    os.nice(10)
    log_to_console(int(sys.argv[1]))
    jobs: list[Job] = [(str(a), str(b), int(size), int(changed)) for a, b, size, changed in json.load(sys.stdin)]
    began = time.monotonic()
    missing = [size for _, copy, size, _ in jobs if not os.path.exists(copy)]
    with shown(f"data.stage: copying {len(missing)} archives", "bytes", sum(missing)):
        copied, told = copy_all(jobs)
    if told:
        log.warning("%s", told)
    if copied:
        size = sum(job[2] for job in copied) / 1e9
        log.info("data.stage: %s archives (%.2f GB) copied in %.0f s", len(copied), size, time.monotonic() - began)


def copy_all(jobs: Sequence[Job]) -> tuple[list[Job], str]:
    """Copy archives that are missing. Return those that were copied, and what to tell the user; nothing is raised."""
    copied: list[Job] = []
    for job in jobs:
        source, copy, size, _ = job
        if os.path.exists(copy):
            continue
        folder = Path(copy).parent
        if not _make_room(folder, size, {Path(job[1]).name for job in jobs}):
            return copied, (
                f"data.stage: {folder} has no room for {source} ({size / 1e9:.2f} GB); this archive and those after it are read "
                "from where they are"
            )
        try:
            if _copy(job):
                copied.append(job)
        except (OSError, DataError) as error:
            reason = getattr(error, "strerror", None) or error
            return copied, f"data.stage: cannot copy {source} to {folder}: {reason}; it is read from where it is"
    return copied, ""


def _make_room(folder: Path, size: int, wanted: set[str]) -> bool:
    """Return whether an archive fits; remove copies that nobody has asked for here, the oldest first, until it does."""
    others = [path for path in folder.iterdir() if path.name.removesuffix(PART) not in wanted]
    for path in [*sorted(others, key=lambda path: path.stat().st_ctime), None]:
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize - size >= SPARE * disk.f_blocks * disk.f_frsize:
            return True
        if path is not None:
            path.unlink(missing_ok=True)
    return False


def _copy(job: Job) -> bool:
    """Copy one archive. Return False if another process copies it now, or it has changed since it was scanned."""
    source, copy, size, changed_ns = job
    part = copy + PART
    with opened(source) as archive, open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            file.truncate(0)
            written = _digest(archive, file)
            file.flush()
            os.fsync(file.fileno())
            with open(part, "rb", buffering=0) as again:
                same = _digest(again) == written
            if not same or version_of(source) != (size, changed_ns):
                return False
            os.utime(part, ns=(changed_ns, changed_ns))
            os.replace(part, copy)
        finally:
            Path(part).unlink(missing_ok=True)
    return True


def _digest(archive: BinaryIO, target: BinaryIO | None = None) -> bytes:
    """Return the digest of the bytes of a file; write them to ``target`` on the way."""
    digest = hashlib.blake2b()
    while block := archive.read(BLOCK):
        digest.update(block)
        if target is not None:
            target.write(block)
            advance(len(block))
    return digest.digest()


if __name__ == "__main__":
    main()
