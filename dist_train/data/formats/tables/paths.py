"""From a path in a table to the file that it means."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.formats.class_folders import CALLS
from dist_train.data.formats.tables.order import Order
from dist_train.data.formats.tables.rows import Row
from dist_train.data.stored.file_facts import file_size, known_of
from dist_train.data.stored.slow_disks import answers
from dist_train.data.stored.survey import note_folders
from dist_train.errors import DataError
from dist_train.system.machine.second_core import in_halves
from dist_train.system.progress import advance

Numbers = NDArray[np.int64]

MOST_OTHERS, SPARE = 4, 1000
"""A folder is listed if it has at most ``MOST_OTHERS`` names for each image that the table names there, and ``SPARE`` more. In a
larger folder each image is looked up alone."""


def looked_up(
    root: str, paths: Sequence[str], order: Order, number: Callable[[Sequence[str]], Numbers] | None = None
) -> tuple[list[int], Numbers | None]:
    """Return the places of the images for which a plain look finds no file, but for those that repeat an image; and ``number``
    of the names in their order.

    Most images are found in lists of the names in their folders, without a look at each.

    Args:
        number: returns a number for each name. A second process does this for half of the names; it has read these already.
    """
    folders = order.folders()
    _note_folders(root, paths, order, folders)

    def half(parts: Sequence[tuple[Sequence[str], slice]]) -> list[tuple[list[int], Numbers | None]]:
        return [
            ([*_unlisted(root, paths, order, folders, some)], number(order.names[names]) if number else None)
            for some, names in parts
        ]

    found = [*chain.from_iterable(in_halves(half, _halves([*folders], len(paths)), len(paths)))]
    numbers = [some for _, some in found if some is not None]
    return _lost(root, paths, order, chain.from_iterable(left for left, _ in found)), (
        np.concatenate(numbers) if numbers else None
    )


def _halves(folders: Sequence[str], images: int) -> list[tuple[Sequence[str], slice]]:
    """Return the first and the second half of the folders, and places of names, most of which lie in these folders."""
    middle = len(folders) // 2
    return [(folders[:middle], slice(images // 2)), (folders[middle:], slice(images // 2, None))]


def _lost(root: str, paths: Sequence[str], order: Order, unlisted: Iterable[int]) -> list[int]:
    left = sorted(order.places[number] for number in unlisted)
    left = [place for place in left if place not in order.repeats]
    known = known_of(root, [paths[place] for place in left])
    return [place for place, found in zip(left, known, strict=True) if found is None]


def _note_folders(root: str, paths: Sequence[str], order: Order, folders: dict[str, Sequence[int]]) -> None:
    """Note the folders as the table writes them, in its order."""
    if order.plain and not order.repeats:
        note_folders(root, [paths[place] for place in sorted(map(order.first_place, folders.values()))])
    else:
        note_folders(root, [path for place, path in enumerate(paths) if place not in order.repeats])


def _unlisted(
    root: str, paths: Sequence[str], order: Order, folders: dict[str, Sequence[int]], some: Sequence[str]
) -> Iterator[int]:
    """Yield the numbers of names in some of the folders for which the list of their folder has no plain file."""

    def plain(folder: str) -> set[str]:
        return _plain_files(root, folder, MOST_OTHERS * len(folders[folder]) + SPARE)

    names = order.names
    left = map(folders.__getitem__, some)
    for block in answers(plain, some, CALLS):
        # `block` is first: with `left` first, zip would take a further folder at the end of each block, and lose it.
        for files, numbers in zip(block, left, strict=False):
            if not (order.plain and files.issuperset(order.named(numbers))):
                yield from (
                    number
                    for number in numbers
                    if names[number] not in files or _may_differ(paths[order.places[number]])
                )
            advance(len(numbers))


def _may_differ(path: str) -> bool:
    """Return whether ``os.path.normpath`` of a path may be another file: of a ".." behind a link, or of a "/" behind a file."""
    return ".." in path or path.endswith(("/", "/."))


def _plain_files(root: str, folder: str, most: int) -> set[str]:
    """Return the plain files in a folder; none if it cannot be read, or holds more than ``most`` names."""
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            found = {folder + entry.name for entry in islice(entries, most) if entry.is_file(follow_symlinks=False)}
            return found if next(entries, None) is None else set()
    except (OSError, ValueError):  # ValueError: it holds a zero byte
        return set()


def find_image(root: Path, row: Row) -> str:
    """Return the name of a row's image, relative to ``root``.

    The file may have its name in another Unicode form than the table: the name is then the file's.

    Raises:
        DataError: the file is missing; the message says how to mend the path.
    """
    try:
        file_size(str(root), row.path)
        return row.path
    except DataError as error:
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, row.path)
            if _is_file(root, name):
                file_size(str(root), name)
                return name
        raise DataError(f"{row.where}: {error}; paths are relative to {root}{_hint(root, row.path)}") from None


def _hint(root: Path, path: str) -> str:
    """Return the fix of a path that names no file, where there is one."""
    if "\n" in path or "\r" in path:
        return "; the path holds a line break: a quote that is not closed joins lines"
    if "\\" in path:
        return "; this is a path of Windows: write / instead of \\"
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if path and _is_file(root, path + suffix)), None)
    return f"; {path}{suffix} exists: set `data.csv.suffix={suffix}`" if suffix else ""


def _is_file(root: Path, name: str) -> bool:
    return os.path.isfile(os.path.join(root, name))
