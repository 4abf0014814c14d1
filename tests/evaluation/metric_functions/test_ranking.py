"""Metrics of probabilities against scikit-learn, with ties, classes that are missing, and values that are NaN."""

import time

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from dist_train.evaluation.metric_functions import ranking
from dist_train.evaluation.metric_functions.scored import Scored
from tests.support.evaluations import RNG, evaluated, nine_classes


def test_classes_against_the_rest() -> None:
    logits, labels = nine_classes()
    probabilities = logits.softmax(1)
    scores = evaluated("classification", logits, labels, metrics=("auroc", "map")).scores
    area = [reference.roc_auc_score(labels == k, probabilities[:, k]) for k in range(8)]
    precision = [reference.average_precision_score(labels == k, probabilities[:, k]) for k in range(8)]
    assert scores["auroc"] == pytest.approx(100 * np.mean(area))
    assert scores["map"] == pytest.approx(100 * np.mean(precision))


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_equal_scores_share_a_threshold(levels: int) -> None:
    labels = (RNG.random((200, 70)) < 0.1).astype(np.float32)
    outputs = RNG.integers(0, levels, (200, 70)).astype(np.float32) / levels
    labels[:, 5], labels[:, 6] = 0, 1
    found = Scored(torch.from_numpy(labels), np.zeros(200), torch.from_numpy(outputs))
    for k, (precision, area) in enumerate(zip(*ranking.per_class(found), strict=True)):
        if k != 5:
            assert precision == pytest.approx(reference.average_precision_score(labels[:, k], outputs[:, k]))
        if k not in (5, 6):
            assert area == pytest.approx(reference.roc_auc_score(labels[:, k], outputs[:, k]))
    assert np.isnan([ranking.average_precisions(found)[5], *ranking.areas_under_roc(found)[5:7]]).all()


def test_scores_that_are_nan_have_no_rank() -> None:
    outputs = torch.tensor([[0.1, torch.nan], [0.9, 0.2]])
    found = Scored(torch.eye(2), np.zeros(2), outputs)
    np.testing.assert_equal(ranking.average_precisions(found), [0.5, np.nan])


def test_calibration() -> None:
    logits, labels = nine_classes()
    confidences, predicted = logits.double().softmax(1).max(1)
    expected = 0.0
    for low in range(15):
        inside = (confidences >= low / 15) & (confidences < (low + 1) / 15)
        if inside.any():
            hits = (predicted == labels)[inside].double().mean()
            expected += float(inside.double().mean() * (hits - confidences[inside].mean()).abs())
    assert evaluated("classification", logits, labels, metrics=("ece",)).scores["ece"] == pytest.approx(100 * expected)


@pytest.mark.slow
def test_many_samples_and_classes_take_seconds() -> None:
    labels = torch.zeros(100_000, 10_000)
    labels[torch.arange(100_000), torch.from_numpy(RNG.integers(0, 10_000, 100_000))] = 1
    outputs = torch.rand(100_000, 10_000, generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    found = ranking.average_precisions(Scored(labels, np.zeros(100_000), outputs))
    assert time.perf_counter() - began < 120, "one call of torchmetrics per class takes about 170 s"
    for number in range(0, 10_000, 2_500):
        expected = reference.average_precision_score(labels[:, number], outputs[:, number])
        assert found[number] == pytest.approx(expected)
