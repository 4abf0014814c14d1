"""Metrics against scikit-learn, on shuffled batches, with classes that are missing."""

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from dist_train.errors import DataError
from tests.support.evaluations import RNG, evaluated, nine_classes


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-6)


@pytest.fixture
def classified() -> tuple[torch.Tensor, torch.Tensor]:
    return nine_classes()


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
    assert math.isnan(evaluated("regression", outputs[:1], labels[:1]).scores["r2"])
    single = evaluated("regression", outputs[:, :1], labels[:, :1])
    assert single.scores["rmse"] == near(rmse[0])
