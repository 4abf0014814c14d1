"""An evaluation in detail: tables, the confusion matrix and its picture, predictions on disk."""

import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from dist_train.data.index import scan
from dist_train.evaluation.reports import class_table, confusion, describe_table, draw_confusion, pack_outcome
from dist_train.run.predictions import load_predictions
from tests.support.data_roots import data_config
from tests.support.evaluations import RNG, evaluated, nine_classes


def test_the_table_of_classes_and_the_confusion_matrix() -> None:
    logits, labels = nine_classes()
    outcome = evaluated("classification", logits, labels)
    names = [f"class {number}" for number in range(9)]
    predicted = logits.argmax(1)
    assert np.array_equal(confusion(outcome, 9), reference.confusion_matrix(labels, predicted, labels=range(9)))
    table = class_table(outcome, names)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, predicted, labels=range(9), zero_division=np.nan
    )
    for number, row in enumerate(table[:7]):
        assert row == {
            "class": f"class {number}",
            "images": int(support[number]),
            "recall": pytest.approx(100 * recall[number]),
            "precision": pytest.approx(100 * precision[number]),
            "f1": pytest.approx(100 * f1[number]),
        }
    assert (table[7]["recall"], table[7]["f1"]) == (0, 0)
    assert math.isnan(table[7]["precision"])
    assert table[8]["images"] == 0
    assert math.isnan(table[8]["f1"])
    text = describe_table(table, limit=3).splitlines()
    assert text[0].split() == ["class", "images", "recall", "precision", "f1"]
    assert text[1].startswith("class 7")  # the worst first
    assert text[-1] == "... and 6 better ones"
    assert describe_table(table).splitlines()[-1].startswith("class 8")  # undefined ones last


def test_the_table_of_labels() -> None:
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0]])
    logits = torch.tensor([[2.0, -3, -4], [1, 2, -4], [3, 1, -4]])
    table = class_table(evaluated("multilabel", logits, labels), list("abc"))
    assert [row["images"] for row in table] == [2, 2, 0]
    assert [row["ap"] for row in table[:2]] == [pytest.approx(100 * (1 / 2 + 2 / 3) / 2), pytest.approx(100)]
    assert [row["f1"] for row in table[:2]] == [pytest.approx(80), pytest.approx(100)]
    assert math.isnan(table[2]["ap"])
    text = describe_table(table).splitlines()
    assert text[0].split() == ["class", "images", "recall", "precision", "f1", "ap", "auroc"]
    assert [line[0] for line in text[1:]] == ["a", "b", "c"], "the worst first, undefined ones last"


def test_the_table_of_a_regression() -> None:
    labels = torch.tensor([[0.0, 10], [2, 30], [4, 20]])
    table = class_table(evaluated("regression", labels + torch.tensor([1.0, -3]), labels), ["x", "y"])
    assert [row["mae"] for row in table] == [row["rmse"] for row in table] == [1.0, 3.0]
    assert [row["r2"] for row in table] == [pytest.approx(1 - 3 / 8), pytest.approx(1 - 27 / 200)]
    assert [line[0] for line in describe_table(table).splitlines()[1:]] == ["y", "x"], "the largest error first"


def test_predictions_name_the_images_that_could_be_read(image_folder: Path, tmp_path: Path) -> None:
    index = scan(data_config(image_folder))
    logits = torch.from_numpy(RNG.normal(size=(23, 3)).astype(np.float32))
    outcome = evaluated("classification", logits, torch.from_numpy(index.val.labels), left_out=2)
    path = tmp_path / "predictions.npz"
    path.write_bytes(pack_outcome(outcome, index, step=7))
    found = load_predictions(path)
    assert found is not None
    assert (found.step, found.paths) == (7, [index.val.name(place) for place in range(21)])
    assert found.pred_N.tolist() == logits[:21].argmax(1).tolist()
    assert found.label_N.tolist() == index.val.labels[:21].tolist()


@pytest.mark.parametrize(("outputs", "kept"), [(3, 3), (100, 100), (101, 5)])
def test_predictions_keep_the_highest_probabilities(
    image_folder: Path, tmp_path: Path, outputs: int, kept: int
) -> None:
    index = scan(data_config(image_folder))
    logits = torch.from_numpy(RNG.normal(size=(23, outputs)).astype(np.float32))
    outcome = evaluated("classification", logits, torch.from_numpy(index.val.labels), left_out=2)
    path = tmp_path / "predictions.npz"
    path.write_bytes(pack_outcome(outcome, index, step=7))
    found = load_predictions(path)
    assert found is not None
    assert found.likeliest is not None
    expected = logits[:21].softmax(1).topk(kept)
    assert found.likeliest.classes_NT.tolist() == expected.indices.tolist()
    assert np.allclose(found.likeliest.probabilities_NT, expected.values, atol=1e-3)


def test_predictions_of_a_regression_are_its_numbers(image_folder: Path) -> None:
    index = scan(data_config(image_folder))
    outputs, targets = (torch.from_numpy(RNG.normal(size=(23, 2)).astype(np.float32)) for _ in range(2))
    packed = pack_outcome(evaluated("regression", outputs, targets), index, step=7)
    with np.load(io.BytesIO(packed)) as kept:
        assert np.array_equal(kept["outputs"], outputs)
        assert np.array_equal(kept["targets"], targets)
        assert kept["paths"].tolist() == [index.val.name(place) for place in range(23)]


def test_a_picture_takes_any_name(tmp_path: Path) -> None:
    names = [r"a $\foo$ b", os.fsdecode(b"\xff"), "two\nlines"]
    draw_confusion(tmp_path / "a.png", np.eye(3, dtype=np.int64), names, r"runs/$\bad$")
    assert (tmp_path / "a.png").stat().st_size > 5000
