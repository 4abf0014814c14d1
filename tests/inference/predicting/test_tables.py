"""CSV and parquet hold the same rows; ``test_predict_images.py`` goes through the command."""

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from dist_train.config.choice_table import Task
from dist_train.errors import ConfigError
from dist_train.inference.predicting import tables
from dist_train.inference.predicting.tables import opened_table
from dist_train.inference.predictor import Prediction

CLASSES = ["cat", "dog"]
EXPECTED: dict[Task, list[object]] = {"classification": ["dog", 0.75], "multilabel": [["dog"]], "regression": []}


def predictions(task: Task, count: int) -> list[Prediction]:
    return [Prediction(Path(f"{number}.jpg"), task, CLASSES, torch.tensor([0.25, 0.75])) for number in range(count)]


@pytest.mark.parametrize("task", list(EXPECTED))
def test_a_parquet_file_of_several_row_groups(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP", 4)
    out = tmp_path / "new" / "out.parquet"
    with opened_table(out, task, CLASSES, "|") as add:
        for found in predictions(task, 10):
            add(found, None)
    assert pyarrow.parquet.ParquetFile(out).num_row_groups == 3
    rows = pyarrow.parquet.read_table(out).to_pylist()
    assert [list(row.values()) for row in rows] == [[f"{n}.jpg", *EXPECTED[task], 0.25, 0.75] for n in range(10)]
    assert list(rows[0])[-2:] == CLASSES


def test_csv_has_the_same_columns(tmp_path: Path) -> None:
    with opened_table(tmp_path / "out.csv", "classification", CLASSES, "|") as add:
        add(predictions("classification", 1)[0], None)
    lines = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert lines == [["path", "prediction", "probability", *CLASSES], ["0.jpg", "dog", "0.75", "0.25", "0.75"]]


def test_no_images_and_names_that_are_not_text(tmp_path: Path) -> None:
    with opened_table(tmp_path / "none.parquet", "regression", CLASSES, "|"):
        pass
    assert pyarrow.parquet.read_table(tmp_path / "none.parquet").num_rows == 0
    with opened_table(tmp_path / "odd.parquet", "regression", CLASSES, "|") as add:
        add(Prediction(Path(os.fsdecode(b"a\xff.jpg")), "regression", CLASSES, torch.zeros(2)), None)
    assert pyarrow.parquet.read_table(tmp_path / "odd.parquet")["path"].to_pylist() == ["a\\xff.jpg"]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_failure_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    out.write_bytes(b"old")
    (tmp_path / f".{name}.0123abcd.tmp").write_bytes(b"of a killed process")
    with pytest.raises(RuntimeError, match="midway"), opened_table(out, "regression", CLASSES, "|") as add:
        add(predictions("regression", 1)[0], None)
        raise RuntimeError("midway")
    assert (out.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (b"old", [name])


def test_a_column_of_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP", 2)
    out = tmp_path / "out.parquet"
    rows_NE = np.arange(15, dtype=np.float32).reshape(5, 3)
    with opened_table(out, "multilabel", CLASSES, "|", width=3) as add:
        for found, row_E in zip(predictions("multilabel", 5), rows_NE, strict=True):
            add(found, row_E)
    table = pyarrow.parquet.read_table(out)
    assert table["embedding"].to_pylist() == rows_NE.tolist()
    assert table["predictions"].to_pylist() == [["dog"]] * 5
    with (
        pytest.raises(ConfigError, match="the class embedding has the name of a column"),
        opened_table(out, "regression", ["embedding"], "|", width=3),
    ):
        pass


def test_csv_goes_through_links_and_into_pipes(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "file.csv")
    with opened_table(tmp_path / "link.csv", "regression", CLASSES, "|") as add:
        add(predictions("regression", 1)[0], None)
    assert (tmp_path / "link.csv").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with opened_table(tmp_path / "pipe", "regression", CLASSES, "|") as add:
        add(predictions("regression", 1)[0], None)
    assert os.read(reader, 4096) == (tmp_path / "file.csv").read_bytes()
    os.close(reader)


def test_a_class_with_the_name_of_a_column(tmp_path: Path) -> None:
    table = opened_table(tmp_path / "out.PARQUET", "classification", ["path", "dog"], "|")
    with pytest.raises(ConfigError, match=r"the class path has the name of a column; write a .csv file"), table:
        pass
