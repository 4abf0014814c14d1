"""Rows of a table and of an array stay in step, around images that cannot be read."""

import csv
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from dist_train.inference.load_run import load_run
from dist_train.inference.predicting.places import Places
from dist_train.inference.predicting.rounds import Outcome
from dist_train.inference.predicting.written import Written
from dist_train.inference.predictor import Predictor


def test_rows(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(path, device="cpu")
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules)
    places = Places(tmp_path / "out.csv", tmp_path / "out.npy")
    written = Written(predictor, ["a", "b", "c"], places, 2)
    outputs, embeddings = np.eye(3, dtype=np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    with ExitStack() as until:
        written.open(run, until)
        assert written.write([Outcome(outputs[:2], embeddings[:2], {0: "a is \x1b[31mred"})])
        assert written.write([Outcome(outputs[2:], embeddings[2:], {})])
        assert not places.table or not places.table.exists()
    lines = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert [line[0] for line in lines] == ["path", "b", "c"]
    assert np.array_equal(np.load(tmp_path / "out.npy"), embeddings[1:])
    assert capsys.readouterr().err == "error: a is \\x1b[31mred\n"


def test_embeddings_as_a_column_of_the_table(path: Path, tmp_path: Path) -> None:
    run = load_run(path, device="cpu")
    predictor = Predictor(run.config, run.network, run.classes, run.device, run.rules)
    out, embeddings = tmp_path / "out.parquet", np.arange(4, dtype=np.float32).reshape(2, 2)
    written = Written(predictor, ["a", "b"], Places(out, out), 2)
    with ExitStack() as until:
        written.open(run, until)
        assert written.write([Outcome(np.eye(2, 3, dtype=np.float32), embeddings, {})])
    table = pyarrow.parquet.read_table(out)
    assert table["path"].to_pylist() == ["a", "b"]
    assert table["embedding"].to_pylist() == embeddings.tolist()
