"""From a path in a table to the file that it means."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.formats.table_file import Row
from dist_train.data.formats.walk import file_size, sizes_of
from dist_train.errors import DataError


def find_images(root: Path, rows: Sequence[Row]) -> Iterator[tuple[str, int]]:
    """Yield ``find_image`` of each row."""
    sizes = sizes_of(str(root), [row.path for row in rows])
    return (find_image(root, row) if size is None else (row.path, size) for row, size in zip(rows, sizes, strict=True))


def find_image(root: Path, row: Row) -> tuple[str, int]:
    """Return the name of a row's image, relative to ``root``, and its size in bytes.

    The file may have its name in another Unicode form than the table: the name is then the file's.

    Raises:
        DataError: there is no such file; the message says how to mend the path.
    """
    try:
        return row.path, file_size(str(root), row.path)
    except DataError as error:
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, row.path)
            if _is_file(root, name):
                return name, file_size(str(root), name)
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
