"""The file of decoded images while it is built, by any number of processes, of any number of runs.

Each process claims a free piece by a lock of one byte; it writes the pixels, then their digests. So the digests say what is done,
and the next build continues a killed one. No process waits for the disk before the end: a power loss may damage images, but each
is compared with its digest before it is used.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dist_train.data.decoding.picture import RGB
from dist_train.data.pixels.pixel_file import (
    DIGEST_BYTES,
    KEY,
    Digests,
    Layout,
    digest_of,
    digests_in,
    end_of_file,
)
from dist_train.errors import ConfigError
from dist_train.system.files import fsync_dir, unfinished
from dist_train.system.private_folder import OwnFile, create_own

ABANDONED_S = 3600
"""Seconds after its last write from which on an unfinished file counts as abandoned."""


class PartFile:
    """The unfinished file of the cache at ``path``. Every process of a build has one.

    Args:
        fingerprint: of the data set.

    Raises:
        ConfigError: it cannot be written, or another user owns it.
    """

    def __init__(self, path: Path, layout: Layout, fingerprint: str) -> None:
        self.path, self.layout, self._fingerprint = path, layout, fingerprint
        self._part = part_of(path, layout, fingerprint)
        with _config_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = create_own(self._part, KEY)
            if self._file.size < layout.end_at:
                os.ftruncate(self._file.descriptor, layout.end_at)

    def is_done(self, piece: int) -> bool:
        """Return whether a piece has all its digests."""
        return bool(self._digests(self.layout.places(piece)).any(axis=1).all())

    def claim(self, piece: int) -> bool:
        """Claim a piece. Return False if another process has claimed it or finished it."""
        if not locked(self._file, piece):
            return False
        if self.is_done(piece):
            self.release(piece)
            return False
        return True

    def release(self, piece: int) -> None:
        """Give up the claim of a piece."""
        unlock(self._file, piece)

    def write(self, place: int, image: RGB) -> bytes:
        """Write an image, and return its digest."""
        with _config_errors(self.path):
            self._file.write(place * image.nbytes, image.data)
        return digest_of(image)

    def finish_piece(self, piece: int, digests: list[bytes]) -> None:
        """Write the digests of a piece, ``BAD`` for an image that cannot be decoded."""
        start = self.layout.digests_at + self.layout.places(piece).start * DIGEST_BYTES
        with _config_errors(self.path):
            self._file.write(start, memoryview(b"".join(digests)))

    def finish(self) -> None:
        """Write the description, and give the file its name, unless another run has just done so."""
        end = end_of_file(self.layout, self._fingerprint, self._digests(range(self.layout.shape[0])))
        with _config_errors(self.path):
            self._file.write(self.layout.end_at, memoryview(end))
            os.ftruncate(self._file.descriptor, self.layout.end_at + len(end))
            os.fsync(self._file.descriptor)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._part), os.fstat(self._file.descriptor)):
                    os.replace(self._part, self.path)
                    fsync_dir(self.path.parent)

    def remove(self) -> None:
        """Remove the name of the file; other processes that have it open can still write to it."""
        self._part.unlink(missing_ok=True)

    def _digests(self, places: range) -> Digests:
        try:
            return digests_in(self._file, self.layout, places)
        except (EOFError, OSError) as error:
            raise ConfigError(
                f"`{KEY}`: {self._part} cannot be read: {str(error) or 'it was cut'}; choose another folder"
            ) from None


def bytes_written(path: Path, layout: Layout, fingerprint: str) -> int:
    """Return the bytes on the disk that the unfinished file of a cache takes already."""
    try:
        return part_of(path, layout, fingerprint).stat().st_blocks * 512
    except OSError:
        return 0


def part_of(path: Path, layout: Layout, fingerprint: str) -> Path:
    """Return the place of the unfinished file of a cache."""
    _, height, width, _ = layout.shape
    return path.with_name(f".{path.name}.{fingerprint[:12]}-{height}x{width}.part")


def remove_abandoned(path: Path, wanted: Path) -> None:
    """Remove unfinished files to which nobody has written for an hour, of other data than ``wanted`` and of older versions."""
    for part in [*unfinished(path, "part"), *unfinished(path, "tmp")]:
        with suppress(OSError):  # another run may remove it too, or it may be another user's
            if part != wanted and time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()


def locked(file: OwnFile, byte: int, wait: bool = False) -> bool:
    """Lock a byte of a file against other processes. Return False if one of them has locked it.

    On a file system without locks every process gets the lock: then all do the same work, and write the same bytes.
    """
    try:
        fcntl.lockf(file.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def unlock(file: OwnFile, byte: int) -> None:
    """Unlock a byte of a file."""
    with suppress(OSError):
        fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, byte)


@contextmanager
def _config_errors(path: Path) -> Iterator[None]:
    """Raise ``ConfigError`` with the key for an error of the file system."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"`{KEY}`: cannot write {path}: {error.strerror}; choose another folder") from None
