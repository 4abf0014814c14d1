"""The file of a scan: columns at places that can be mapped, and nothing that is taken on trust."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.data.index import DataIndex, scan
from dist_train.data.label_sets import LabelSets
from dist_train.data.stored.scan_file import ALIGNMENT, StoredScan, read_scan, write_scan
from dist_train.data.stored.survey import surveyed
from tests.support.data_roots import data_config


@pytest.fixture
def stored(image_folder: Path, tmp_path: Path) -> Path:
    with surveyed() as survey:
        index = scan(data_config(image_folder))
    write_scan(tmp_path / "scan", StoredScan.of("here", index, survey))
    return tmp_path / "scan"


def _parts(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """The columns and the description, as another program would read them."""
    length = int.from_bytes(content[-40:-32])
    return content[: -40 - length], json.loads(content[-40 - length : -40])


def _joined(columns: bytes, description: object) -> bytes:
    text = json.dumps(description).encode()
    whole = columns + text + len(text).to_bytes(8)
    return whole + hashlib.sha256(whole).digest()


def test_another_process_can_map_a_column(image_folder: Path, stored: Path) -> None:
    _, description = _parts(stored.read_bytes())
    index = scan(data_config(image_folder))
    for name, values in (("name", index.train.paths), ("size", index.train.sizes), ("label", index.train.labels)):
        kind, shape, place = description["columns"][f"train.{name}"]
        assert place % ALIGNMENT == 0
        mapped = np.memmap(stored, np.dtype(kind), "r", place, tuple(shape))
        np.testing.assert_array_equal(mapped, values)
    times = np.memmap(stored, np.int64, "r", description["columns"]["val.changed_ns"][2], (len(index.val),))
    assert times.tolist() == [(image_folder / index.val.name(n)).stat().st_mtime_ns for n in range(len(index.val))]


def test_columns_for_parts_of_files_can_be_added(stored: Path) -> None:
    """An image in a shard has a place there. This version reads such a file, and leaves the columns out."""
    columns, description = _parts(stored.read_bytes())
    length = description["columns"]["train.size"][1]
    padded = columns + bytes(-len(columns) % ALIGNMENT)
    description["columns"]["train.offset"] = ["<i8", length, len(padded)]
    before = read_scan(stored)
    stored.write_bytes(_joined(padded + bytes(8 * length[0]), description))
    after = read_scan(stored)
    assert before is not None
    assert after is not None
    assert after.index.fingerprint == before.index.fingerprint


@pytest.fixture
def tagged(image_folder: Path, tmp_path: Path) -> tuple[DataIndex, Path]:
    """A scan of images with several labels, and its file."""
    rows = "".join(
        f"train/class_a/{name},{tags}\n" for name, tags in [("000.png", "a|c"), ("003.jpg", ""), ("006.jpg", "c")]
    )
    table = tmp_path / "tags.csv"
    table.write_text(f"path,label\n{rows}")
    keys = {"format": "csv", "task": "multilabel", "csv": {"train": str(table), "val": str(table)}}
    with surveyed() as survey:
        index = scan(data_config(image_folder, **keys))
    write_scan(tmp_path / "scan", StoredScan.of("here", index, survey))
    return index, tmp_path / "scan"


def test_labels_are_stored_sparse(tagged: tuple[DataIndex, Path]) -> None:
    index, path = tagged
    found = read_scan(path)
    assert found is not None
    assert isinstance(found.index.train.labels, LabelSets)
    assert found.index.train.labels[:].tolist() == index.train.labels[:].tolist() == [[1, 1], [0, 0], [0, 1]]
    assert found.index.fingerprint == index.fingerprint


@pytest.mark.parametrize("column", ["starts", "numbers"])
@pytest.mark.parametrize("value", [b"\xff", b"\x7f"])
def test_labels_that_do_not_fit_are_no_scan(tagged: tuple[DataIndex, Path], column: str, value: bytes) -> None:
    columns, description = _parts(tagged[1].read_bytes())
    _, _, place = description["columns"][f"train.label.{column}"]
    tagged[1].write_bytes(_joined(columns[:place] + value + columns[place + 1 :], description))
    assert read_scan(tagged[1]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": 1},
        {"columns": {}},
        {"columns": {"train.name": ["|O", [1], 0]}},
        {"columns": {"train.name": ["<i8", [10**18], 0]}},
        {"columns": [1]},
        {"places": [1]},
        {"classes": 3},
        {"images": None},
        {"notes": None},
    ],
)
def test_what_does_not_fit_is_no_scan(stored: Path, wrong: dict[str, Any]) -> None:
    columns, description = _parts(stored.read_bytes())
    stored.write_bytes(_joined(columns, description | wrong))
    assert read_scan(stored) is None


@pytest.mark.parametrize("description", [[], 3, None, {}])
def test_a_description_of_another_kind_is_no_scan(stored: Path, description: object) -> None:
    stored.write_bytes(_joined(b"", description))
    assert read_scan(stored) is None


@pytest.mark.parametrize("length", [0, 1, 39, 40, 41, 500, -1])
def test_a_part_of_the_file_is_no_scan(stored: Path, length: int) -> None:
    stored.write_bytes(stored.read_bytes()[:length])
    assert read_scan(stored) is None
