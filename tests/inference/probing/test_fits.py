"""Nearest neighbours and linear models, against their definitions and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from dist_train.config.choice_table import Task
from dist_train.inference.probing import fits
from dist_train.inference.probing.fits import Features, Problem, linear, neighbours

CLASSES = Problem("classification", 3)


def _clouds(count: int, seed: int) -> Features:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return Features(torch.randn(count, 8, generator=random) + 1.2 * torch.eye(3, 8)[labels], labels)


def test_neighbours_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "TOGETHER", 200)  # several parts
    train, new = _clouds(60, 0), _clouds(33, 1)
    for k, outputs in neighbours(CLASSES, train, new.values, [1, 5]):
        theirs = KNeighborsClassifier(int(k), metric="cosine", weights=lambda far: np.exp((1 - far) / fits.TEMPERATURE))
        shares = theirs.fit(train.values.numpy(), train.labels.numpy()).predict_proba(new.values.numpy())
        expected = torch.from_numpy((shares * k + 1 / 3) / (k + 1)).float()
        torch.testing.assert_close(outputs.softmax(1), expected, atol=1e-4, rtol=1e-3)


def test_more_neighbours_than_images() -> None:
    ((_, outputs),) = neighbours(CLASSES, _clouds(6, 0), _clouds(4, 1).values, [20])
    torch.testing.assert_close(outputs.softmax(1).sum(1), torch.ones(4))


def test_a_logistic_regression_is_scikit_learns() -> None:
    train, new = _clouds(60, 0), _clouds(33, 1)
    scaler = StandardScaler().fit(train.values.numpy())
    found = dict(linear(CLASSES, train, new.values, [0.01, 1.0]))
    for strength, outputs in found.items():
        theirs = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(train.values.numpy()), train.labels)
        expected = theirs.predict_proba(scaler.transform(new.values.numpy()))
        torch.testing.assert_close(outputs.softmax(1), torch.from_numpy(expected).float(), atol=2e-3, rtol=0)


def test_labels_are_fitted_one_by_one_and_numbers_by_ridge() -> None:
    train, new = _clouds(90, 0), _clouds(60, 1)
    marks = torch.stack([train.labels == 0, train.labels != 1, torch.ones(90)], dim=1).float()
    ((_, logits),) = linear(Problem("multilabel", 3), Features(train.values, marks), new.values, [0.1])
    assert ((logits[:, 0] > 0) == (new.labels == 0)).float().mean() > 0.6
    assert (logits[:, 2] > 3).all()  # a label that each training image has
    numbers = train.values[:, :2] * 10 + 5
    ((_, found),) = linear(Problem("regression", 2), Features(train.values, numbers), new.values, [1.0])
    torch.testing.assert_close(found, new.values[:, :2] * 10 + 5, atol=2, rtol=0)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_neighbours_average_targets(task: Task) -> None:
    values = torch.eye(4)
    targets = torch.tensor([[0.0, 1], [1, 0], [0, 0], [1, 1]])
    ((_, outputs),) = neighbours(Problem(task, 2), Features(values, targets), values * 3, [1])
    assert torch.equal((outputs.sigmoid() if task == "multilabel" else outputs) > 0.5, targets > 0.5)


def test_a_class_without_images_is_unlikely() -> None:
    train = _clouds(60, 0)
    some = Features(train.values[train.labels < 2], train.labels[train.labels < 2])
    one = Features(train.values[train.labels == 1], train.labels[train.labels == 1])
    for problem_part, likely in ((some, {0, 1}), (one, {1})):
        ((_, outputs),) = linear(CLASSES, problem_part, train.values, [0.1])
        assert set(outputs.argmax(1).tolist()) <= likely
        assert outputs.isfinite().all()
