"""The lock by which only one process at a time uploads a run."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RETRY_S = 1.0
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors of a file system without locks, such as Lustre without the mount option ``flock``: there uploaders do not see each other."""


@contextmanager
def alone_with(path: Path, wait_s: float) -> Iterator[bool]:
    """Hold the lock ``path``. Yield False if another process keeps it for longer than ``wait_s``."""
    deadline = time.monotonic() + wait_s
    # "w" would empty the file behind a link, which may be any file of this user's.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    with open(descriptor, "r+b", buffering=0) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(_RETRY_S)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                break
            else:
                break
        yield True
