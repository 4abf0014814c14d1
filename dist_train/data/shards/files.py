"""Archives as files, on this machine or remote: opened, read at a place, and what they are now."""

import io
import os
import resource
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import BinaryIO, cast

from dist_train.config.types import is_remote
from dist_train.data.shards.remote import store as remote
from dist_train.data.shards.remote.store import Version
from dist_train.errors import DataError

BLOCK = 8 << 20
"""Bytes of one request for a remote archive whose table is read."""

MOST_OPEN = 1024
"""Archives that a process keeps open. With ``pack``'s 512 MB each, they hold 512 GB."""


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

    An archive stays open, because a cluster's file system asks its server each time a file is opened. After each read the path is
    looked up again, so that the caller notices at once if the archive was changed, replaced or removed.

    Raises:
        DataError: it cannot be read.
    """
    if is_remote(path):
        found = remote.read(path, offset, length)
        return found, remote.version_of(path)
    with suppress(OSError):  # then it is opened again below, which helps after a restart of its server, or says why not
        archive = _kept_open(path)
        found = os.pread(archive.descriptor, length, offset)
        now = os.stat(path)
        if (now.st_dev, now.st_ino) == archive.identity:
            return found, (now.st_size, now.st_mtime_ns)
    _kept_open.cache_clear()
    try:
        return read_once(path, offset, length)
    except OSError as error:
        raise DataError(f"cannot read the archive {path}: {error.strerror}") from None


def read_once(path: str, offset: int, length: int) -> tuple[bytes, Version]:
    """Return what ``read_at`` does, for a local file that is closed afterwards.

    Raises:
        OSError: it cannot be read.
    """
    archive = _Archive(path)
    found, status = os.pread(archive.descriptor, length, offset), os.fstat(archive.descriptor)
    return found, (status.st_size, status.st_mtime_ns)


class _Archive:
    """A file that is open as long as this object lives: a thread may still read it after another has dropped it from the cache.

    Threads and forked processes share it, since ``pread`` moves no position.

    Attributes:
        identity: number of the device, and of the file on it.
    """

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        status = os.fstat(self.descriptor)
        self.identity = status.st_dev, status.st_ino

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "descriptor"):
            close(self.descriptor)


def _most_open() -> int:
    """Return how many archives stay open: a quarter of the files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if soft == resource.RLIM_INFINITY else min(MOST_OPEN, soft // 4)


_kept_open = lru_cache(maxsize=_most_open())(_Archive)
