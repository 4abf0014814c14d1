"""How well features separate the validation images: by the metric of the config, with its standard error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.evaluation.better import better_scores
from dist_train.evaluation.metric_functions.scored import Scored
from dist_train.evaluation.metrics import SampleScores, metric_value
from dist_train.inference.probing.fits import NEIGHBOURS, STRENGTHS, Features, Method, Problem, linear, neighbours

HELD_OUT = 5
"""Every fifth training image of a class chooses k and C; one image of a smaller class, and none of a class with a single image."""
RESAMPLES = 100
"""Bootstrap samples of the validation images, for the standard error."""

METHODS: dict[str, tuple[Method, Sequence[float]]] = {
    "knn": (neighbours, NEIGHBOURS),
    "linear": (linear, STRENGTHS),
}
"""Name -> how outputs are computed, and the grid of its one setting."""


@dataclass(frozen=True)
class Verdict:
    """How well one method does on the validation images: score, its standard error, and the value chosen from the grid."""

    score: float
    error: float
    setting: float


def judged(name: str, problem: Problem, train: Features, val: Features, metric: str, seed: int) -> Verdict:
    """Choose the setting of a method on a part of the training images, and score it on the validation images.

    Args:
        name: a key of ``METHODS``.
        metric: a name of a metric.
        seed: of the part, and of the standard error.
    """
    method, grid = METHODS[name]
    setting = _chosen(method, grid, problem, train, metric, seed)
    ((_, outputs),) = method(problem, train, val.values, [setting])
    found = scored(problem, outputs, val.labels, metric)
    return Verdict(
        metric_value(metric, found), standard_error(lambda some: metric_value(metric, some), found, seed), setting
    )


def _chosen(method: Method, grid: Sequence[float], problem: Problem, train: Features, metric: str, seed: int) -> float:
    """Return the value of the grid with the best score on held-out training images; the middle one if there are none."""
    held = torch.from_numpy(held_out(train.labels.numpy(), seed))
    if not held.any():
        return grid[len(grid) // 2]
    fit, rest = (Features(train.values[part], train.labels[part]) for part in (~held, held))
    best: tuple[float, dict[str, float]] | None = None
    for value, outputs in method(problem, fit, rest.values, grid):
        found = scored(problem, outputs, rest.labels, metric)
        scores = {name: metric_value(name, found) for name in (metric, "loss")}
        if best is None or better_scores(metric, scores, best[1]):
            best = value, scores
    assert best is not None
    return best[0]


def held_out(labels: NDArray[Any], seed: int) -> NDArray[np.bool_]:
    """Return which training images choose the settings: one of ``HELD_OUT`` of each class, or of all images without classes.

    Each class keeps an image to be fitted with.
    """
    classes = labels if labels.ndim == 1 and labels.dtype == np.int64 else np.zeros(len(labels), np.int64)
    order = np.random.default_rng(seed).permutation(len(classes))
    chosen = np.zeros(len(classes), dtype=bool)
    for label in np.unique(classes):
        members = order[classes[order] == label]
        chosen[members[1::HELD_OUT]] = True
    return chosen


def scored(problem: Problem, outputs_NK: Tensor, labels: Tensor, metric: str) -> Scored:
    """Return the outputs and labels in the form from which metrics are computed."""
    split = Split(np.zeros(len(labels), np.bytes_), labels.numpy())
    scores = SampleScores(split, problem.task, problem.outputs, torch.device("cpu"), [metric, "loss"])
    scores.add(outputs_NK, labels, torch.arange(len(labels)))
    return scores.scored(Dist.alone()).found


def standard_error(value: Callable[[Scored], float], found: Scored, seed: int) -> float:
    """Return the standard deviation of a metric over bootstrap samples of the images (Efron, 1979).

    Samples for which the metric does not exist, such as `auroc` of one class, do not count; NaN if fewer than two are left.
    """
    random, length = np.random.default_rng(seed), len(found.labels)
    drawn = np.array([value(_of(found, random.integers(length, size=length))) for _ in range(RESAMPLES)])
    exist = drawn[~np.isnan(drawn)]
    return float(np.std(exist)) if len(exist) > 1 else math.nan


def _of(found: Scored, places: NDArray[np.int64]) -> Scored:
    """Return the samples at ``places``."""
    some = {name: values[places] for name, values in vars(found).items() if values is not None and len(values)}
    return replace(found, **some)
