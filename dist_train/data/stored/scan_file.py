"""One file with a scan: the images of both splits in columns that a process can map into memory, and a description.

::

    columns           each begins at a multiple of 64 bytes
    description       JSON: what was scanned, classes, notes, stamps of the survey; dtype, shape and place of each column
    its length        8 bytes
    SHA-256           32 bytes, of all before

Columns of a split are ``name`` (bytes), ``size`` and ``changed_ns`` (int64, empty where nobody has asked) and ``label`` (int64 [N],
or float32 [N, K]), and ``column.PURPOSE`` (float64 [N]) for each of ``Split.columns``. Multilabel has ``label.starts`` and ``label.numbers`` in place of
``label`` (``LabelSets``). Images in archives have the columns ``places.NAME`` of ``Places``, and the description has their archives.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dist_train.data.formats.base import Images
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex
from dist_train.data.label_sets import LabelSets
from dist_train.data.shards.places import Places, Shard
from dist_train.data.shards.shard_images import ShardImages
from dist_train.data.split import Split, SplitName
from dist_train.data.stored.survey import Stamp, Survey
from dist_train.system.files import atomic_write

FORMAT = 3
ALIGNMENT = 64
LENGTH_BYTES, DIGEST_BYTES = 8, 32
SPLITS: tuple[SplitName, ...] = ("train", "val")
TEXTS = ("source", "root", "images", "task", "fingerprint")
PLACES = "places."
KINDS = "Sif"
"""Kinds of dtypes that a column may have: others could hold pointers."""


@dataclass(frozen=True)
class StoredScan:
    """A scan as it was written.

    Attributes:
        source: what was scanned: a digest of the keys of the config that decide it.
        index: images are files or members of archives, decoded by the usual rules.
        places: folders and tables that were read, by path, with their stamps.
        changed_ns: when each file was last changed, in ns since 1970: int64 [N] of each split, or [0] where nobody has asked for
            sizes; 0 for a member of an archive, which is one of ``places``.
        began_ns: when the scan began, in ns since 1970.
    """

    source: str
    index: DataIndex
    places: dict[str, Stamp]
    changed_ns: dict[SplitName, NDArray[np.int64]]
    began_ns: int = 0

    @classmethod
    def of(cls, source: str, index: DataIndex, survey: Survey) -> "StoredScan":
        """Return what to keep of a scan."""
        splits = {name: index.split(name).paths.tolist() if index.has_sizes else [] for name in SPLITS}
        times = {
            name: np.array([survey.changed_ns.get(path, 0) for path in map(os.fsdecode, paths)], np.int64)
            for name, paths in splits.items()
        }
        return cls(source, index, survey.places, times, survey.began_ns)


def write_scan(path: Path, scan: StoredScan) -> None:
    """Write a scan of files, atomically."""
    with atomic_write(path) as file:
        out = _Hashed(file)
        columns = {key: out.column(values) for key, values in _columns(scan).items()}
        text = json.dumps(_description(scan) | {"columns": columns}).encode()
        out.write(text + len(text).to_bytes(LENGTH_BYTES))
        file.write(out.digest.digest())


def read_scan(path: Path, mapped: bool = False) -> StoredScan | None:
    """Return a stored scan; None if there is none, or it is of another version, or damaged.

    Args:
        mapped: its columns lie in the file, where a write copies the page. Else they are copies: the file may be replaced while
            the run goes on.
    """
    try:
        content = np.memmap(path, np.uint8, mode="c").view(np.ndarray)
        end = len(content) - DIGEST_BYTES
        if end < LENGTH_BYTES or hashlib.sha256(content[:end].data).digest() != content[end:].tobytes():
            return None
        start = end - LENGTH_BYTES - int.from_bytes(content[end - LENGTH_BYTES : end].tobytes())
        found = json.loads(content[start : end - LENGTH_BYTES].tobytes())
        return _scan_of(found, content, mapped) if found["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError, LookupError, AttributeError):
        return None


class _Hashed:
    """A file that is written from its beginning to its end, and the SHA-256 of its bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._place = file, 0
        self.digest = hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self.digest.update(content)
        self._place += len(content)

    def column(self, values: NDArray[Any]) -> list[Any]:
        """Write an array, and return its dtype, shape and place."""
        self.write(bytes(-self._place % ALIGNMENT))
        place = self._place
        self.write(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data)
        return [values.dtype.str, list(values.shape), place]


def _columns(scan: StoredScan) -> dict[str, NDArray[Any]]:
    found = _place_columns(scan.index.images)
    for name in SPLITS:
        split = scan.index.split(name)
        found[f"{name}.name"] = split.paths
        found[f"{name}.size"] = split.sizes
        found[f"{name}.changed_ns"] = scan.changed_ns[name]
        found |= _label_columns(f"{name}.label", split.labels)
        found |= {f"{name}.column.{purpose}": values for purpose, values in split.columns.items()}
    return found


def _place_columns(images: Images) -> dict[str, NDArray[Any]]:
    if not isinstance(images, ShardImages):
        return {}
    found = {f"{PLACES}{name.name}": getattr(images.places, name.name) for name in fields(Places)}
    return {key: values.astype(np.int8) if values.dtype == np.bool_ else values for key, values in found.items()}


def _images_of(found: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> Images:
    if not found.get("shards"):
        return FileImages(found["images"])
    places = Places(**{name.name: columns[f"{PLACES}{name.name}"] for name in fields(Places)})
    return ShardImages(
        found["images"], tuple(Shard(str(path), int(size), int(ns)) for path, size, ns in found["shards"]), places
    )


def _label_columns(key: str, labels: NDArray[Any] | LabelSets) -> dict[str, NDArray[Any]]:
    if isinstance(labels, LabelSets):
        return {f"{key}.starts": labels.starts, f"{key}.numbers": labels.numbers}
    return {key: labels}


def _labels_of(key: str, columns: Mapping[str, NDArray[Any]], outputs: int) -> NDArray[Any] | LabelSets:
    if key in columns:
        return columns[key]
    return LabelSets(columns[f"{key}.starts"], columns[f"{key}.numbers"], outputs)


def _description(scan: StoredScan) -> dict[str, Any]:
    index = scan.index
    return {
        "format": FORMAT,
        "source": scan.source,
        "root": index.root,
        "images": index.images.root if isinstance(index.images, FileImages | ShardImages) else None,
        "shards": [astuple(shard) for shard in index.images.shards] if isinstance(index.images, ShardImages) else [],
        "task": index.task,
        "classes": index.classes,
        "fingerprint": index.fingerprint,
        "notes": index.notes,
        "refused": index.refused,
        "places": scan.places,
        "began_ns": scan.began_ns,
    }


def _scan_of(found: Mapping[str, Any], content: NDArray[np.uint8], mapped: bool) -> StoredScan:
    texts = [*(found[key] for key in TEXTS), *found["classes"], *found["notes"], *found["refused"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("something else than text")
    columns = {key: _column(content, *column) for key, column in found["columns"].items()}
    if not mapped:
        columns = {key: values.copy() for key, values in columns.items()}
    train, val = (_split_of(name, columns, len(found["classes"])) for name in SPLITS)
    index = DataIndex(
        found["root"],
        _images_of(found, columns),
        found["task"],
        found["classes"],
        train,
        val,
        found["fingerprint"],
        tuple(found["notes"]),
        tuple(found["refused"]),
    )
    places = {place: (stamp[0], stamp[1]) for place, stamp in found["places"].items()}
    times = {name: columns[f"{name}.changed_ns"] for name in SPLITS}
    return StoredScan(found["source"], index, places, times, int(found["began_ns"]))


def _split_of(name: str, columns: Mapping[str, NDArray[Any]], outputs: int) -> Split:
    prefix = f"{name}.column."
    further = {key.removeprefix(prefix): values for key, values in columns.items() if key.startswith(prefix)}
    labels = _labels_of(f"{name}.label", columns, outputs)
    return Split(columns[f"{name}.name"], labels, columns[f"{name}.size"], further)


def _column(content: NDArray[np.uint8], kind: str, shape: list[int], place: int) -> NDArray[Any]:
    dtype = np.dtype(kind)
    if dtype.kind not in KINDS:
        raise ValueError(f"a column of {dtype}")
    size = math.prod(shape) * dtype.itemsize
    return content[place : place + size].view(dtype).reshape(shape)
