"""Images in an Arrow file of Hugging Face ``datasets`` (``save_to_disk``), and the columns of its tables.

The file is mapped: the address of a value in it, less that of the file's first byte, is its place
(https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-layout).
"""

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from dist_train.config.types import is_remote
from dist_train.data.formats.base import with_suffix
from dist_train.data.formats.class_names import ClassFolders, few
from dist_train.data.shards.files import opened, version_of
from dist_train.data.shards.members import Aside, Member, is_inside
from dist_train.errors import DataError

IMAGE, LABEL = ("image", "img"), ("label", "labels", "fine_label", "class", "target")
"""Names of columns; the first that a table has counts."""
KEPT = ("cache-", "indices")
"""How the names of tables begin that ``datasets`` keeps beside its data."""


class _Row(NamedTuple):
    """A row of a table: its number, the place of the image, and what the other columns say."""

    number: int
    offset: int
    length: int
    path: str
    label: Any


def arrow_members(path: str, aside: Aside) -> Iterator[Member]:
    """See ``MemberReader``. The name of a member is ``<class>/<file>``, where the table has a path; a number, where it has none."""
    if os.path.basename(path).startswith(KEPT):
        aside.kinds["tables that `datasets` keeps as a cache"] += 1
        return
    pyarrow = arrow()
    try:
        whole = _whole(pyarrow, path)
        stream = stream_of(pyarrow, whole)
        names, columns = class_names(stream.schema), columns_of(path, stream.schema.names)
        rows = list(_rows(path, whole, stream, columns))
        last = Counter((row.label, row.path) for row in rows)
        folders, stem = ClassFolders(), PurePosixPath(path).stem
        for row in rows:
            if not is_labelled(row.length, row.label):
                aside.kinds["rows without an image or a label"] += 1
                continue
            named = (
                row.path
                if row.path and last[row.label, row.path] == 1
                else f"{stem}-{row.number:08d}{PurePosixPath(row.path).suffix}"
            )
            head = partial(lambda place: whole[place : place + 4].to_pybytes(), row.offset)
            name = folders.name("", class_of(row.label, names), with_suffix(named, head))
            yield Member(name, row.offset, row.length, row.length)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from None


def _whole(pyarrow: Any, path: str) -> Any:
    """Return a file as a buffer: mapped, or (a remote one) read."""
    if not is_remote(path):
        return pyarrow.memory_map(path).read_buffer()
    with opened(path) as file:
        return pyarrow.py_buffer(file.read(version_of(path)[0]))


def _rows(path: str, whole: Any, stream: Any, columns: tuple[str, str]) -> Iterator[_Row]:
    number = 0
    for batch in batches_of(stream):
        image, label = (batch.column(name) for name in columns)
        contents, paths = _contents(path, image)
        offsets, lengths = _places(contents, whole.address)
        for offset, length, name, value in zip(offsets, lengths, paths, label.to_pylist(), strict=True):
            if not is_inside(Member("", offset, length, length), whole.size):
                raise ValueError(
                    "its values are compressed, so that none can be read alone: run `dist-train pack FOLDER OUT`"
                )
            yield _Row(number, offset, length, PurePosixPath(name or "").name, value)
            number += 1


def _contents(path: str, image: Any) -> tuple[Any, list[str | None]]:
    """Return the bytes of the images, and their paths: of a column of bytes, or of ``{bytes, path}``."""
    fields = (
        {image.type.field(n).name: values for n, values in enumerate(image.flatten())} if image.type.num_fields else {}
    )
    contents = fields.get("bytes", image)
    if str(contents.type) not in ("binary", "large_binary"):
        raise ValueError(f"the images are {contents.type}, not bytes of files")
    return contents, fields["path"].to_pylist() if "path" in fields else [None] * len(image)


def _places(contents: Any, start: int) -> tuple[list[int], list[int]]:
    """Return offset in the file and length of each value; length 0 of one that is missing."""
    _, offsets, data = contents.buffers()
    if data is None or not len(contents):
        return [0] * len(contents), [0] * len(contents)
    kind = np.int64 if str(contents.type).startswith("large") else np.int32
    ends = np.frombuffer(offsets, kind)[contents.offset : contents.offset + len(contents) + 1].astype(np.int64)
    valid = contents.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.diff(ends) * valid
    return (np.where(lengths > 0, ends[:-1] + data.address - start, 0)).tolist(), lengths.tolist()


def arrow() -> Any:
    """Return the package ``pyarrow``; raise ``DataError`` where it is missing."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("parquet and Arrow files need pyarrow: pip install 'dist_train[tables]'") from None
    return pyarrow


def stream_of(pyarrow: Any, source: Any) -> Any:
    """Open an Arrow file in either of its two forms: a stream, or one with a table at its end."""
    try:
        return pyarrow.ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(source)


def batches_of(stream: Any) -> Iterator[Any]:
    """Yield the groups of rows of an Arrow file."""
    if hasattr(stream, "num_record_batches"):
        return (stream.get_batch(number) for number in range(stream.num_record_batches))
    return iter(stream)


def columns_of(table: str, names: list[str]) -> tuple[str, str]:
    """Return the names of the columns of images and labels; raise ``DataError`` if one is missing."""
    image = next((name for name in IMAGE if name in names), None)
    label = next((name for name in LABEL if name in names), None)
    if image is None or label is None:
        missing = "of images (" + ", ".join(IMAGE) + ")" if image is None else "of labels (" + ", ".join(LABEL) + ")"
        raise DataError(f"{table} has no column {missing}; it has: {few(names)}")
    return image, label


def class_names(schema: Any) -> list[str]:
    """Return the names of the classes that ``datasets`` keeps with the columns; none if labels are texts or numbers."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        described = [features[name] for name in LABEL if isinstance(features.get(name), dict)]
    except AttributeError:
        raise ValueError("what `datasets` says about its columns is damaged") from None
    return [str(name) for name in itertools.chain(*(found.get("names") or [] for found in described[:1]))]


def is_labelled(size: int, label: Any) -> bool:
    """Return whether a row has an image and a label; test sets of competitions have -1."""
    return bool(size) and label is not None and not (isinstance(label, int) and label < 0)


def class_of(label: Any, names: list[str]) -> str:
    """Return the name of a row's class."""
    return names[label] if names and isinstance(label, int) else str(label)


def unreadable(table: str | os.PathLike[str], error: Exception) -> DataError:
    """Return the error of a table that cannot be read."""
    return DataError(f"cannot read {table}: {str(error).splitlines()[0]}; download it again")
