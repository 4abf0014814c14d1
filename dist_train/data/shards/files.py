"""Archives as files, on this machine or remote: opened, read at a place, and what they are now."""

import io
import os
import stat
from typing import BinaryIO, cast

from dist_train.config.types import is_remote
from dist_train.data.shards import remote
from dist_train.data.shards.remote import Version
from dist_train.errors import DataError

BLOCK = 8 << 20
"""Bytes of one request for a remote archive whose table is read."""


def version_of(path: str) -> Version:
    """Return the size of an archive, and when it was last changed in ns since 1970 (remote: a number of its ETag).

    Raises:
        DataError: it is missing, or is not a file.
    """
    if is_remote(path):
        return remote.version_of(path)
    try:
        found = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read the archive {path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"cannot read the archive {path}: it is not a file")
    return found.st_size, found.st_mtime_ns


def opened(path: str) -> BinaryIO:
    """Open an archive to read it from its beginning; raise ``DataError`` if that fails."""
    if is_remote(path):
        return cast(BinaryIO, io.BufferedReader(remote.RemoteFile(path), BLOCK))
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"cannot read the archive {path}: {error.strerror}") from None


def read_at(path: str, offset: int, length: int) -> tuple[bytes, Version]:
    """Return bytes of an archive, and what it was when they had been read.

    Raises:
        DataError: it cannot be read.
    """
    if is_remote(path):
        found = remote.read(path, offset, length)
        return found, remote.version_of(path)
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            return os.pread(file.fileno(), length, offset), (status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"cannot read the archive {path}: {error.strerror}") from None
