"""What a finished run adds to its W&B page."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from dist_train.loggers.wandb.files import records, segments_of
from dist_train.loggers.wandb.report import _confusions, _per_class
from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, pack_predictions
from tests.support.wandb_helpers import (
    train,
)


def test_nothing_of_an_offline_run_is_copied_to_the_home_folder(run: RunDir) -> None:
    run.best.write_bytes(b"weights")
    run.predictions.write_bytes(pack_predictions(Predictions(5, np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), [])))
    Image.new("RGB", (8, 8)).save(run.look)
    run.report.write_text("<p>a page</p>")
    train(run, 0, 5, "done", 0, "offline")
    session = json.loads((run.path / "wandb" / "session.json").read_text())
    (segment,) = segments_of(run.path / "wandb", session["id"])
    references = [entry.ref for record in records(segment) for entry in record.artifact.manifest.contents]
    assert run.best.resolve().as_uri() in references
    assert sum("data/look" in str(record.history) for record in records(segment)) == 1
    (page,) = (run.path / "wandb").rglob("report_*.html")
    assert page.read_text() == "<p>a page</p>"
    assert not [path for path in Path(os.environ["HOME"]).rglob("*") if path.is_file()]


def test_the_tables_of_many_classes_need_no_matrix() -> None:
    names = [str(index) for index in range(100_000)]  # K x K would be 10^10
    label, pred = np.array([0, 0, 1, 1, 7, 7], np.int32), np.array([0, 1, 1, 7, 99_999, 99_999], np.int32)
    predictions = Predictions(1, pred, label, [])
    table = _per_class(names, predictions)
    assert (table[0], table[1], table[7], table[2]) == (
        ["0", 2, 0.5, 1.0],
        ["1", 2, 0.5, 0.5],
        ["7", 2, 0.0, 0.0],
        ["2", 0, None, None],
    )
    assert _confusions(names, predictions) == [["7", "99999", 2], ["0", "1", 1], ["1", "7", 1]]
