"""Images of a Hugging Face data set on disk, for ``pack``: parquet files as they are downloaded, or the folder of ``save_to_disk``.

Parquet and Arrow files are read one group of rows at a time, in their order, because parquet has no place for a single image.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dist_train.data.formats.base import with_suffix
from dist_train.data.formats.class_names import ClassFolders
from dist_train.data.shards.archives import split_of
from dist_train.data.shards.arrow_members import (
    KEPT,
    arrow,
    batches_of,
    class_names,
    class_of,
    columns_of,
    is_labelled,
    stream_of,
    unreadable,
)
from dist_train.system.progress import advance

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".arrow")


def is_table_folder(folder: Path) -> bool:
    """Return whether a folder holds parquet or Arrow files, also in its subfolders."""
    return any(True for _ in _tables(folder))


@dataclass(frozen=True)
class Row:
    """An image in a table: its name as in a folder, its size in bytes, the group of rows, the row in it."""

    name: str
    size: int
    table: Path
    group: int
    row: int


class TableSource:
    """The images of all tables below a folder; see ``pack.Source``.

    Raises:
        DataError: pyarrow is missing, a table cannot be read, or has no column of images or labels.
    """

    def __init__(self, folder: Path) -> None:
        self.left_aside = 0
        self._folder, self._classes = folder, ClassFolders()
        self._rows: dict[str, Row] = {}
        self._group: tuple[Path, int, pa.Table] | None = None

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield name and size of each image, in the order of the tables."""
        found = [row for table in sorted(_tables(self._folder)) for row in self._of_table(table)]
        counts = Counter(row.name for row in found)
        for number, row in enumerate(found):
            name = row.name
            if counts[name] > 1:  # `path` is often the same in each class, or missing
                path = PurePosixPath(name)
                name = str(path.with_name(f"{number:08d}-{path.name}"))
            self._rows[name] = row
            yield name, row.size

    def read(self, name: str) -> bytes:
        """Return the bytes of an image."""
        row = self._rows[name]
        if self._group is None or self._group[:2] != (row.table, row.group):
            self._group = row.table, row.group, _groups(row.table)[row.group]()
        content, _ = _image(self._group[2].column(0)[row.row].as_py())
        return content

    def _of_table(self, table: Path) -> Iterator[Row]:
        names = _class_names(table)
        split = split_of(table.relative_to(self._folder).as_posix())
        for group, read in enumerate(_groups(table)):
            rows = read()
            for number, (value, label) in enumerate(zip(rows.column(0), rows.column(1).to_pylist(), strict=True)):
                content, path = _image(value.as_py())
                if not is_labelled(len(content), label):
                    self.left_aside += 1
                    continue
                last = PurePosixPath(path).name or f"{number:08d}"
                name = self._classes.name(split, class_of(label, names), with_suffix(last, partial(bytes, content)))
                yield Row(name, len(content), table, group, number)
                advance()


def _tables(folder: Path) -> Iterator[Path]:
    return (path for ending in ENDINGS for path in folder.rglob(f"*{ending}") if not path.name.startswith((".", *KEPT)))


def _image(value: Any) -> tuple[bytes, str]:
    """Return bytes and path of an image: a column of bytes, or of ``{bytes, path}``."""
    if isinstance(value, dict):
        return value.get("bytes") or b"", value.get("path") or ""
    return value or b"", ""


def _groups(table: Path) -> list[Any]:
    """Return a function for each group of rows, which reads it: a table with the columns image and label."""
    pyarrow = arrow()
    try:
        if table.suffix == ".parquet":
            file = pyarrow.parquet.ParquetFile(table)
            columns = list(columns_of(str(table), file.schema_arrow.names))
            return [
                lambda number=number: file.read_row_group(number, columns=columns).select(columns)
                for number in range(file.num_row_groups)
            ]
        stream = stream_of(pyarrow, pyarrow.memory_map(os.fspath(table)))
        columns = list(columns_of(str(table), stream.schema.names))
        return [lambda batch=batch: pyarrow.Table.from_batches([batch]).select(columns) for batch in batches_of(stream)]
    except (pyarrow.ArrowException, OSError) as error:
        raise unreadable(table, error) from None


def _class_names(table: Path) -> list[str]:
    pyarrow = arrow()
    try:
        if table.suffix == ".parquet":
            return class_names(pyarrow.parquet.read_schema(table))
        return class_names(stream_of(pyarrow, pyarrow.memory_map(os.fspath(table))).schema)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(table, error) from None
