"""Atomic writes, SHA-256 digests, small JSON files. Imports no torch."""

import errno
import glob
import hashlib
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

T = TypeVar("T")

TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
"""Errors from which a network file system may recover."""
FULL = {errno.ENOSPC, errno.EDQUOT}
"""Errors of a disk or a quota without room."""
PAUSES_S = (1.0, 5.0, 15.0)
MOST_JSON = 16 << 20
"""Bytes of a JSON file. Somebody else may have written it; read into objects it takes up to 40 times as many."""


def patiently(work: Callable[[], T]) -> T:
    """Call ``work``; after a transient error wait and call it again.

    Raises:
        OSError: the error is permanent, or returns at every try.
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
    """Make a rename or a new file in the directory ``path`` survive a power loss."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_write(path: Path, durable: bool = True, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing; rename it to ``path`` if the block succeeds.

    A reader sees the old file or the new one, never a part of it. With ``durable`` the bytes and the name are fsynced, so
    that this also holds after a power loss. An ``OSError`` names ``path``. The file has the rights ``mode`` less the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{secrets.token_hex(4)}.tmp"
    )  # random, because two hosts may have the same pid
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            fsync_dir(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # instead of the temporary file, or of no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of killed writers of ``path``. Call it only from the one process that writes ``path``."""
    for leftover in unfinished(path, "tmp"):
        leftover.unlink(missing_ok=True)


def unfinished(path: Path, suffix: str) -> list[Path]:
    """Return the hidden files beside ``path`` that have its name, another word and ``suffix``; any character may be in its name."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.{suffix}"))


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write ``value`` atomically as indented JSON; see ``json_text``."""
    with atomic_write(path, durable) as file:
        file.write((json_text(value, indent=2) + "\n").encode())


def overwrite_json(path: Path, value: Any) -> None:
    """Write ``value`` over the content of a small file, where there is no room for a second one: ``write_json`` is safer.

    The first block of a file takes room for 4096 bytes, however short it is.
    """
    content = (json_text(value, indent=2) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, content, 0)  # one call: a reader sees the old bytes or the new ones
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_text(value: Any, indent: int | None = None) -> str:
    """Return ``value`` as JSON. NaN and infinite numbers become null, because JSON has no such numbers."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path, default: Any = None) -> Any:
    """Return the JSON value in the file ``path``.

    Return ``default`` if the file is missing, larger than ``MOST_JSON``, does not parse, or holds another type of value
    than ``default`` (if that is not None).
    """
    try:
        value = json.loads(read_bounded(path, MOST_JSON))
    except (OSError, ValueError, RecursionError):
        return default
    return value if default is None or isinstance(value, type(default)) else default


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: it is missing, larger, or something else: a named pipe would never end.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB", str(path))
    return content


MISSING = "does not exist"


def fault_of_file(path: Path) -> str:
    """Return what is wrong with a file that is to be read, such as "does not exist"; an empty string if it can be read."""
    try:
        open_regular(path).close()
    except FileNotFoundError:
        return "is a link to a file that does not exist" if os.path.islink(path) else MISSING
    except IsADirectoryError:
        return "is a folder"
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        return f"cannot be read: {getattr(error, 'strerror', error)}"
    return ""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: it is missing, or a folder, a device, or a named pipe, whose opening would wait for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        fault = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(fault, "it is not a regular file", str(path))
    return open(descriptor, "rb")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex: equal values have equal fingerprints."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
