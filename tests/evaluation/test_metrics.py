"""Metrics against scikit-learn, on shuffled batches, with classes that are missing."""

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from dist_train.data.index import Split
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.evaluation.metrics import Evaluation, SampleScores
from dist_train.evaluation.reports import class_table, confusion, describe_table

ALONE = Dist.alone()
RNG = np.random.default_rng(0)


def evaluated(
    task: Any, logits: torch.Tensor, labels: torch.Tensor, left_out: int = 0, keep: bool = False
) -> Evaluation:
    """Score in shuffled batches of 7, as ranks would; the last ``left_out`` samples are bad images."""
    length = len(labels)
    split = Split(np.array([b"x"] * length), labels.numpy())
    scores = SampleScores(split, task, logits.shape[1], ALONE.device, keep)
    places = np.arange(length)
    places[length - left_out :] = length
    order = RNG.permutation(length)
    for start in range(0, length, 7):
        batch = order[start : start + 7]
        scores.add(logits[batch], labels[batch], torch.from_numpy(places[batch]))
    return scores.read(ALONE)


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-6)


@pytest.fixture
def classified() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of 9 classes; class 7 is never predicted, class 8 is not there at all."""
    labels = torch.from_numpy(RNG.integers(0, 8, 90))
    logits = torch.from_numpy(RNG.normal(size=(90, 9)).astype(np.float32))
    logits[torch.arange(90), labels] += 1.5
    logits[:, 7:] -= 20
    return logits, labels


def test_classification(classified: Any) -> None:
    logits, labels = classified
    outcome = evaluated("classification", logits, labels)
    predicted = logits.argmax(1)
    assert torch.equal(outcome.classes, predicted)  # type: ignore[arg-type]
    assert outcome.outputs is None
    assert outcome.scores == {
        "loss": near(float(torch.nn.functional.cross_entropy(logits.double(), labels))),
        "top1": near(100 * reference.accuracy_score(labels, predicted)),
        "top5": near(100 * reference.top_k_accuracy_score(labels, logits, k=5, labels=range(9))),
        # over the classes that appear among labels or predictions
        "macro_f1": near(100 * reference.f1_score(labels, predicted, average="macro", zero_division=0)),
    }


def test_the_table_of_classes_and_the_confusion_matrix(classified: Any) -> None:
    logits, labels = classified
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
            "recall": near(100 * recall[number]),
            "precision": near(100 * precision[number]),
            "f1": near(100 * f1[number]),
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


def test_probabilities_are_kept_on_request(classified: Any) -> None:
    logits, labels = classified
    outcome = evaluated("classification", logits, labels, keep=True)
    assert torch.allclose(outcome.outputs, logits.softmax(1))  # type: ignore[arg-type]


def test_two_classes_and_fewer(classified: Any) -> None:
    labels = torch.tensor([0, 1, 1])
    assert evaluated("classification", torch.tensor([[2.0, 1], [2, 1], [0, 1]]), labels).scores["top5"] == 100
    one = evaluated("classification", torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    assert (one.scores["top1"], one.scores["macro_f1"]) == (100, 100)


def test_bad_images_do_not_count(classified: Any) -> None:
    logits, labels = classified
    logits[-5:] = 100.0 * torch.arange(9)
    outcome = evaluated("classification", logits, labels, left_out=5)
    assert outcome.scores == evaluated("classification", logits[:-5], labels[:-5]).scores
    assert outcome.counted.tolist() == [True] * 85 + [False] * 5
    assert len(outcome.labels) == 85
    with pytest.raises(DataError, match=r"none of the validation images can be read"):
        evaluated("classification", logits, labels, left_out=90)


def test_multilabel() -> None:
    labels = torch.from_numpy((RNG.random((80, 5)) < 0.3).astype(np.float32))
    labels[:, 3] = 0  # without a positive there is no average precision
    logits = torch.from_numpy(RNG.normal(size=(80, 5)).astype(np.float32)) + labels
    logits[:, 4] -= 20
    outcome = evaluated("multilabel", logits, labels)
    expected = [reference.average_precision_score(labels[:, k], logits[:, k]) for k in (0, 1, 2, 4)]
    f1 = reference.f1_score(labels, logits > 0, average=None, zero_division=0)
    assert outcome.scores == {
        "loss": near(float(torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double()))),
        "map": near(100 * np.mean(expected)),
        "macro_f1": near(100 * np.mean(f1)),
    }
    table = class_table(outcome, list("abcde"))
    assert math.isnan(table[3]["ap"])
    assert (table[0]["images"], table[0]["ap"]) == (int(labels[:, 0].sum()), near(100 * expected[0]))
    assert describe_table(table).splitlines()[0].split() == ["class", "images", "ap", "f1"]
    single = evaluated("multilabel", logits[:, :1], labels[:, :1])
    assert single.scores["map"] == near(100 * expected[0])
    assert single.scores["macro_f1"] == near(100 * f1[0])


def test_regression() -> None:
    labels = torch.from_numpy(RNG.normal(size=(50, 2)).astype(np.float32)) * torch.tensor([1.0, 100.0])
    outputs = labels + torch.from_numpy(RNG.normal(size=(50, 2)).astype(np.float32))
    outcome = evaluated("regression", outputs, labels)
    truth, found = labels.double(), outputs.double()
    rmse = reference.root_mean_squared_error(truth, found, multioutput="raw_values")
    assert outcome.scores == {
        "loss": near(reference.mean_squared_error(truth, found)),
        "mae": near(reference.mean_absolute_error(truth, found)),
        "rmse": near(rmse.mean()),
        "r2": near(reference.r2_score(truth, found)),
    }
    table = class_table(outcome, ["x", "y"])
    assert [row["rmse"] for row in table] == [near(rmse[0]), near(rmse[1])]
    assert math.isnan(evaluated("regression", outputs[:1], labels[:1]).scores["r2"])
    single = evaluated("regression", outputs[:, :1], labels[:, :1])
    assert single.scores["rmse"] == near(rmse[0])
