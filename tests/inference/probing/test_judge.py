"""Settings come from training images only, and the error is that of the metric."""

import math

import numpy as np
import pytest
import torch

from dist_train.config.choice_table import Task
from dist_train.inference.probing.fits import STRENGTHS, Features, Problem
from dist_train.inference.probing.judge import METHODS, held_out, judged, scored, standard_error


def test_a_fifth_of_each_class_is_held_out_and_each_class_keeps_an_image() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 5, 2, 1])
    chosen = held_out(labels, seed=0)
    assert [int(chosen[labels == label].sum()) for label in range(4)] == [10, 1, 1, 0]
    assert held_out(np.zeros((20, 3), np.float32), seed=0).sum() == 4
    assert (held_out(labels, 0) != held_out(labels, 1)).any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("task", "metric"), [("classification", "top1"), ("multilabel", "map"), ("regression", "mae")])
def test_good_features_beat_noise(name: str, task: Task, metric: str) -> None:
    random = torch.Generator().manual_seed(0)
    classes = torch.arange(80) % 2
    labels = classes if task == "classification" else torch.stack([classes, 1 - classes], dim=1).float()
    noise = torch.randn(80, 6, generator=random)
    good = noise + 4 * torch.eye(2, 6)[classes]
    parts = [[Features(values[part], labels[part]) for part in (slice(60), slice(60, 80))] for values in (good, noise)]
    (well, badly) = (judged(name, Problem(task, 2), train, val, metric, seed=0) for train, val in parts)
    assert (well.score < badly.score) if metric == "mae" else (well.score > badly.score)
    assert badly.error > 0
    assert well.setting in METHODS[name][1]


def test_without_held_out_images_the_middle_of_the_grid_is_used() -> None:
    values, labels = torch.eye(2), torch.tensor([0, 1])
    one_each = Features(values, labels)
    found = judged("linear", Problem("classification", 2), one_each, one_each, "top1", seed=0)
    assert found.setting == STRENGTHS[len(STRENGTHS) // 2]


def test_the_standard_error_of_a_share_is_the_binomial_one() -> None:
    labels = torch.zeros(400, dtype=torch.int64)
    outputs = torch.eye(2)[(torch.arange(400) % 4 == 0).long()]
    found = scored(Problem("classification", 2), outputs, labels, "top1")
    error = standard_error(lambda some: 100 * float((some.ranks < 1).mean()), found, seed=0)
    assert error == pytest.approx(100 * (0.25 * 0.75 / 400) ** 0.5, rel=0.25)


def test_samples_without_the_metric_do_not_count() -> None:
    """With one image of the second class, many a bootstrap sample has none."""
    labels = torch.tensor([0] * 7 + [1])
    found = scored(
        Problem("classification", 2), torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), labels, "auroc"
    )
    error = standard_error(
        lambda some: float(some.labels.float().mean()) if some.labels.any() else math.nan, found, seed=0
    )
    assert 0.02 < error < 0.2
    assert math.isnan(standard_error(lambda some: math.nan, found, seed=0))
