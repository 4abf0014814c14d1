"""Tables: their columns, separators and tasks, and what is wrong with them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.data.index import scan
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, names, picture


def table(path: Path, *lines: tuple[str, ...], separator: str = ",") -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images for tables to name."""
    for number in range(6):
        picture(tmp_path / "photos" / f"{number}.png", (8 + number, 8))
    return tmp_path


def paths(*numbers: int) -> list[str]:
    return [f"photos/{number}.png" for number in numbers]


def test_a_table_of_classes(photos: Path) -> None:
    one, two, three, four = paths(0, 1, 2, 3)
    table(photos / "train.csv", ("path", "label", "who"), (two, "10", "x"), (one, "9", "y"), (three, "cat", "z"))
    table(photos / "val.csv", ("path", "label"), (four, "9"))
    index = scan(data_config(photos, format="csv"))
    assert index.classes == ["9", "10", "cat"]  # whole numbers by value, then names
    assert names(index.train) == [one, two, three]
    assert index.train.labels.tolist() == [0, 1, 2]
    assert index.val.labels.tolist() == [0]


def test_a_table_with_other_names_and_separators(photos: Path) -> None:
    one, two = paths(0, 1)
    table(photos / "all.tsv", ("file", "tags"), (one, "red;big"), (two, ""), separator="\t")
    keys = {"train": "all.tsv", "val": "all.tsv", "path": "file", "targets": ["tags"], "separator": "\t"}
    index = scan(data_config(photos, format="csv", task="multilabel", csv={**keys, "label_separator": ";"}))
    assert index.classes == ["big", "red"]
    assert index.train.labels.tolist() == [[1, 1], [0, 0]]
    assert index.train.labels.dtype == np.float32


def test_a_table_with_a_column_a_class(photos: Path) -> None:
    one, two = paths(0, 1)
    for name in ("train.csv", "val.csv"):
        table(photos / name, ("path", "sky", "sea"), (one, "1", "0"), (two, "0", "1.0"))
    index = scan(data_config(photos, format="csv", task="multilabel", csv={"targets": ["sea", "sky"]}))
    assert index.classes == ["sea", "sky"]
    assert index.train.labels.tolist() == [[0, 1], [1, 0]]


def test_a_table_of_numbers_split_by_seed(photos: Path) -> None:
    table(
        photos / "train.csv",
        ("path", "x", "y"),
        *((name, str(place), "-1e-1") for place, name in enumerate(paths(*range(6)))),
    )
    index = scan(data_config(photos, format="csv", task="regression", csv={"targets": ["x", "y"]}, val_fraction=0.34))
    assert (index.outputs, index.classes) == (2, ["x", "y"])
    assert (len(index.train), len(index.val)) == (4, 2)
    assert index.val.labels.shape == (2, 2)
    with pytest.raises(DataError, match=r"cannot read the table .*val.csv: .*`data.csv` names the tables"):
        scan(data_config(photos, format="csv", task="regression", csv={"targets": ["x", "y"]}))
    with pytest.raises(ConfigError, match=r"`data.csv.val` \(null\) leaves no validation set"):
        scan(data_config(photos, format="csv", task="regression", csv={"targets": ["x", "y"], "val": None}))


@pytest.mark.parametrize(
    ("header", "line", "task", "words"),
    [
        (("file", "label"), ("photos/0.png", "a"), "classification", r"train.csv has no column path; its first line names file, label"),
        (("path", "label", "label"), ("photos/0.png", "a", "b"), "classification", r"train.csv has two columns label; rename"),
        (("path",), ("photos/0.png",), "classification", r"has no column label; .* set `data.csv.path`"),
        (("path", "label"), ("photos/0.png",), "classification", r"train.csv line 2 has fewer columns than the header"),
        (("path", "label"), ("photos/0.png", ""), "classification", r"train.csv line 2 has no label"),
        (("path", "label"), ("photos/9.png", "a"), "classification", r"line 2: cannot read the image .*/photos/9.png: No such file or directory; paths are relative to"),
        (("path", "label"), ("", "a"), "classification", r"line 2: cannot read the image .*: it is not a file"),
        (("path", "label"), ("a\0.png", "a"), "classification", r"line 2: cannot read the image .*: embedded null byte"),
        (("path", "label"), ("photos/0.png", ""), "multilabel", r"column label of .*train.csv holds no label at all"),
        (("path", "label"), ("photos/0.png", "high"), "regression", r"line 2 has targets 'high', which are not all finite numbers"),
        (("path", "label"), ("photos/0.png", "nan"), "regression", r"line 2 has targets 'nan', which are not all finite"),
        (("path", "label"), ("photos/0.png", "1e39"), "regression", r"line 2 has targets '1e39', which .* numbers of 32 bits"),
    ],
)  # fmt: skip
def test_tables_that_are_wrong(photos: Path, header: Any, line: Any, task: str, words: str) -> None:
    table(photos / "train.csv", header, line)
    table(photos / "val.csv", ("path", "label"), ("photos/1.png", "1"))
    with pytest.raises(DataError, match=words):
        scan(data_config(photos, format="csv", task=task))


def test_tables_that_disagree(photos: Path) -> None:
    one, two = paths(0, 1)
    table(photos / "train.csv", ("path", "label"), (one, "a"))
    table(photos / "val.csv", ("path", "label"), (two, "b"))
    with pytest.raises(DataError, match=r"val.csv line 2 has class 'b', which the training table has not"):
        scan(data_config(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"), (two, "a"), (two, "a"))
    with pytest.raises(DataError, match=r"val.csv line 3 names photos/1.png a second time, after .*val.csv line 2"):
        scan(data_config(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"), (two, "a"), (f"./{two}", "a"))
    with pytest.raises(DataError, match=r"val.csv line 3 names ./photos/1.png a second time, after .*val.csv line 2"):
        scan(data_config(photos, format="csv"))
    table(photos / "val.csv", ("path", "label"))
    with pytest.raises(DataError, match=r"val.csv has a header and no lines"):
        scan(data_config(photos, format="csv"))
    table(photos / "train.csv", ("path", "p", "q"), (one, "1", "2"))
    with pytest.raises(DataError, match=r"with a column a class they must be 0 or 1"):
        scan(data_config(photos, format="csv", task="multilabel", csv={"targets": ["p", "q"], "val": "train.csv"}))
    with pytest.raises(ConfigError, match=r"names 2 columns, and one class an image needs one; set `data.task`"):
        scan(data_config(photos, format="csv", csv={"targets": ["p", "q"], "val": "train.csv"}))
