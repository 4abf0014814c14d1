"""Files that are whole or absent: atomic writes, digests, small JSON documents. No torch here."""

import errno
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")

TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
"""Errors that a network file system may get over."""
PAUSES_S = (1.0, 5.0, 15.0)


def patiently(work: Callable[[], T]) -> T:
    """Do ``work``; after a transient error wait and do it again.

    Raises:
        OSError: the disk does not get over it.
    """
    for pause_s in PAUSES_S:
        try:
            return work()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
        time.sleep(pause_s)
    return work()


def fsync_dir(path: Path) -> None:
    """Make a rename or a new entry in the directory ``path`` durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of ``path`` for writing; rename it into place if the block succeeds.

    A reader sees the old file or the new one, never a part. With ``durable`` the bytes and the name
    are fsynced first, so that this also holds after a power loss. An error of the disk names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # process ids repeat from host to host
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            fsync_dir(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # rather than the neighbour, or nothing
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of ``path`` have left beside it; for the only process that writes it."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_write(path, durable) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path, default: Any = None) -> Any:
    """The JSON document at ``path``; ``default`` if there is none, or it does not parse."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return default


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex: equal values have equal fingerprints."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
