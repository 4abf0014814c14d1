"""Metrics of decisions against scikit-learn, and their cost with many classes."""

import time
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from dist_train.evaluation.metric_functions import counts
from dist_train.evaluation.metric_functions.scored import Scored
from tests.support.evaluations import RNG, evaluated, nine_classes


def classified(labels: Any, classes: Any) -> Scored:
    return Scored(torch.tensor(labels), np.zeros(len(labels)), classes=torch.tensor(classes))


def test_each_metric_of_classes_is_scikit_learns() -> None:
    logits, labels = nine_classes()
    predicted = logits.argmax(1)
    names = ("precision", "recall", "balanced_accuracy", "kappa", "quadratic_kappa", "top3")
    scores = evaluated("classification", logits, labels, metrics=names).scores
    both = {"average": "macro", "zero_division": 0}
    assert scores["precision"] == pytest.approx(100 * reference.precision_score(labels, predicted, **both))
    assert scores["recall"] == pytest.approx(100 * reference.recall_score(labels, predicted, **both))
    assert scores["balanced_accuracy"] == pytest.approx(100 * reference.balanced_accuracy_score(labels, predicted))
    assert scores["kappa"] == pytest.approx(reference.cohen_kappa_score(labels, predicted))
    quadratic = reference.cohen_kappa_score(labels, predicted, weights="quadratic")
    assert scores["quadratic_kappa"] == pytest.approx(quadratic)
    assert scores["top3"] == pytest.approx(100 * reference.top_k_accuracy_score(labels, logits, k=3, labels=range(9)))


def test_each_metric_of_labels_is_scikit_learns() -> None:
    labels = torch.from_numpy((RNG.random((80, 5)) < 0.3).astype(np.float32))
    logits = torch.from_numpy(RNG.normal(size=(80, 5)).astype(np.float32)) + labels
    logits[:, 4], labels[:, 3] = -20, 0
    scores = evaluated("multilabel", logits, labels, metrics=("precision", "recall")).scores
    both = {"average": "macro", "zero_division": 0}
    assert scores["precision"] == pytest.approx(100 * reference.precision_score(labels, logits > 0, **both))
    assert scores["recall"] == pytest.approx(100 * reference.recall_score(labels, logits > 0, **both))


def test_values_per_class() -> None:
    found = counts.count(classified([0, 0, 1, 3], [0, 1, 1, 1]), 5)
    np.testing.assert_equal(found.recalls(), [0.5, 1, np.nan, 0, np.nan])
    np.testing.assert_equal(found.precisions(), [1, 1 / 3, np.nan, np.nan, np.nan])
    np.testing.assert_equal(found.f1(), [2 / 3, 1 / 2, np.nan, 0, np.nan])


def test_agreement_by_chance_alone_is_zero_and_certainty_has_no_kappa() -> None:
    assert counts.kappa(classified([0, 0, 1, 1], [0, 1, 0, 1])) == 0
    assert counts.quadratic_kappa(classified([0, 0, 2, 2], [2, 2, 0, 0])) == -1
    assert np.isnan(counts.kappa(classified([1, 1], [1, 1])))


def test_equal_logits_are_no_hits_of_every_class() -> None:
    scores = evaluated("classification", torch.zeros(90, 9), nine_classes()[1], metrics=("top3",)).scores
    assert scores["top1"] < 30
    assert scores["top3"] < 60


def test_many_classes_take_no_time() -> None:
    labels, classes = RNG.integers(0, 21_841, (2, 50_000))
    began = time.perf_counter()
    counts.macro_f1(classified(labels, classes))
    assert time.perf_counter() - began < 0.5, "torchmetrics takes 2.9 s; this takes 2 ms"
