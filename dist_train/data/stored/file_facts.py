"""Sizes and times of the files of images. Where the disk answers slowly, several threads ask for them."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dist_train.data.stored.slow_disks import answers
from dist_train.data.stored.survey import note_folders, note_images
from dist_train.errors import DataError
from dist_train.system.progress import advance

LONGEST_PATH = 400
"""Characters of a path that stand in a message."""

FILE_TYPE = stat.S_IFMT(0xFFFF)
"""Bits of a file's mode: quicker than a call of ``S_ISREG`` for each of a million files."""


def file_sizes(root: str, names: Sequence[str]) -> list[int]:
    """Return the number of bytes in the file of each image.

    Raises:
        DataError: as ``file_size``.
    """
    found = sizes_of(root, names)
    return [file_size(root, name) if size is None else size for name, size in zip(names, found, strict=True)]


def sizes_of(root: str, names: Sequence[str]) -> Iterator[int | None]:
    """Yield the number of bytes in the file of each image; None where ``file_size`` raises."""
    note_folders(root, names)
    for name, found in zip(names, known_of(root, names), strict=True):
        if found is not None:
            note_images([(name, found.st_mtime_ns)])
        yield None if found is None else found.st_size


def known_of(root: str, names: Sequence[str]) -> Iterator[os.stat_result | None]:
    """Yield the result of ``os.stat`` for the file of each image; None if the file is missing."""
    with _looking_below(root) as look:
        for block in answers(look, names):
            advance(len(block))
            yield from block


@contextmanager
def _looking_below(root: str) -> Iterator[Callable[[str], os.stat_result | None]]:
    """Yield a function from a path to what ``os.stat`` knows of the file; to None if the file does not exist.

    The path is relative to ``root``, which is open meanwhile: the system does not look for it again and again.

    Raises:
        DataError: ``root`` cannot be opened.
    """
    try:
        opened = os.open(root, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot read the folder {root}: {error.strerror}") from None

    def look(name: str) -> os.stat_result | None:
        try:
            found = os.stat(name, dir_fd=opened)
        except (OSError, ValueError):  # ValueError: it holds a zero byte
            return None
        return found if found.st_mode & FILE_TYPE == stat.S_IFREG else None

    try:
        yield look
    finally:
        os.close(opened)


def file_size(root: str, name: str) -> int:
    """Return the number of bytes in the file of an image.

    Raises:
        DataError: the file is missing, or is a folder or a pipe, which would be read without end.
    """
    path = os.path.join(root, name)
    note_folders(root, [name])
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: it holds a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        broken = "; it is a broken link" if os.path.islink(path) else ""
        raise DataError(f"cannot read the image {_shown(path)}: {reason}{broken}") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"cannot read the image {_shown(path)}: it is not a file")
    note_images([(name, found.st_mtime_ns)])
    advance()
    return found.st_size


def _shown(path: str) -> str:
    return path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}..."
