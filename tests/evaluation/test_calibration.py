"""Temperature and thresholds, compared with scikit-learn's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, precision_recall_curve

from dist_train.evaluation.calibration import (
    HOTTEST,
    Calibration,
    cross_fitted,
    fit_temperature,
    fit_thresholds,
    read_calibration,
)


class Outputs(ClassifierMixin, BaseEstimator):
    """A classifier for scikit-learn whose inputs are its outputs."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Outputs":
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[X.argmax(1)]

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X


def sampled(heat: float, count: int = 4000, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs, and labels that follow their softmax at temperature ``heat``."""
    generator = torch.Generator().manual_seed(3)
    outputs = 3 * torch.randn(count, classes, generator=generator)
    labels = (outputs / heat).softmax(1).multinomial(1, generator=generator).flatten()
    return outputs, labels


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.5])
def test_the_temperature_is_scikit_learns(heat: float) -> None:
    outputs, labels = sampled(heat)
    found = fit_temperature("classification", outputs, labels)
    assert found == pytest.approx(heat, rel=0.1)
    model = FrozenEstimator(Outputs().fit(outputs.numpy(), labels.numpy()))
    theirs = CalibratedClassifierCV(model, method="temperature").fit(outputs.double().numpy(), labels.numpy())
    expected = theirs.predict_proba(outputs.double().numpy())
    assert np.abs((outputs.double() / found).softmax(1).numpy() - expected).max() < 1e-4


def test_the_temperature_is_bounded() -> None:
    outputs = torch.eye(3).repeat(10, 1)
    assert fit_temperature("classification", outputs, torch.arange(3).repeat(10)) == pytest.approx(1 / HOTTEST, rel=0.2)
    assert fit_temperature("classification", outputs, (torch.arange(3).repeat(10) + 1) % 3) == pytest.approx(
        HOTTEST, rel=0.2
    )


def test_several_labels_have_one_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = 4 * torch.randn(3000, 3, generator=generator)
    labels = torch.bernoulli((outputs / 2).sigmoid(), generator=generator)
    assert fit_temperature("multilabel", outputs, labels) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("decimals", [1, 6])
def test_thresholds_have_the_best_f1_of_all(decimals: int) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((200, 4)).round(decimals).astype(np.float32)
    labels = (rng.random((200, 4)) < scores**2).astype(np.float32)
    labels[:, 3] = 0
    found = fit_thresholds(scores, labels)
    assert found[3] == 0.5
    for one in range(3):
        precision, recall, _ = precision_recall_curve(labels[:, one], scores[:, one])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert f1_score(labels[:, one], scores[:, one] > found[one]) == pytest.approx(best)


def test_an_image_is_judged_by_a_fit_without_it() -> None:
    outputs, labels = sampled(2.0, count=400)
    probabilities, decisions = cross_fitted("classification", outputs, labels)
    rest = torch.arange(400) % 5 != 1
    heat = fit_temperature("classification", outputs[rest], labels[rest])
    assert torch.allclose(probabilities[1], (outputs[1] / heat).softmax(0))
    assert decisions is None
    _, decided = cross_fitted("multilabel", outputs, torch.nn.functional.one_hot(labels).float())
    assert decided is not None
    assert 0 < decided.mean() < 1


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    assert read_calibration(path, 2) is None
    kept = Calibration(1.5, (0.25, 0.5), {"flip": True}, "digest")
    kept.write(path)
    assert read_calibration(path, 2) == kept
    assert read_calibration(path, 3) is None
    good = json.loads(path.read_text())
    for wrong in (
        {"temperature": 0.0},
        {"temperature": "1"},
        {"thresholds": [2.0, 0.1]},
        {"thresholds": 3},
        {"weights": None},
    ):
        path.write_text(json.dumps(good | wrong))
        assert read_calibration(path, 2) is None
    path.write_text("[]")
    assert read_calibration(path, 2) is None
