"""From a path in a table to the file that it means."""

import os
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.formats.class_folders import CALLS
from dist_train.data.formats.table_file import Row
from dist_train.data.stored.file_facts import file_size, known_of
from dist_train.data.stored.slow_disks import answers
from dist_train.data.stored.survey import note_folders
from dist_train.errors import DataError
from dist_train.system.progress import advance

MOST_OTHERS, SPARE = 4, 1000
"""A folder is listed if it has at most ``MOST_OTHERS`` names for each image that the table names there, and ``SPARE`` more. In a
larger folder each image is looked up alone."""


def find_images(root: Path, rows: Sequence[Row]) -> Iterator[str]:
    """Yield ``find_image`` of each row. Most images are found in lists of the names in their folders, without a look at each."""
    names = [row.path for row in rows]
    note_folders(str(root), names)
    there = _listed(str(root), names)
    left = [name for name, listed in zip(names, there, strict=True) if not listed]
    known = known_of(str(root), left)
    for row, listed in zip(rows, there, strict=True):
        yield row.path if listed or next(known) is not None else find_image(root, row)


def _listed(root: str, names: Sequence[str]) -> bytearray:
    """Return for each name 1 if the list of its folder has a plain file of that name, else 0."""
    found = bytearray(len(names))
    places: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    for place, name in enumerate(names):
        places[name[: name.rfind("/") + 1]].append(place)

    def plain(folder: str) -> set[str]:
        return _plain_files(os.path.join(root, folder), MOST_OTHERS * len(places[folder]) + SPARE)

    left = iter(places)
    for block in answers(plain, [*places], CALLS):
        # `block` is first: with `left` first, zip would take a further folder at the end of each block, and lose it.
        for files, folder in zip(block, left, strict=False):
            for place in places[folder]:
                found[place] = names[place][len(folder) :] in files
            advance(len(places[folder]))
    return found


def _plain_files(folder: str, most: int) -> set[str]:
    """Return the names of the plain files in a folder; none if it cannot be read, or holds more than ``most`` names."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name for entry in islice(entries, most) if entry.is_file(follow_symlinks=False)}
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
