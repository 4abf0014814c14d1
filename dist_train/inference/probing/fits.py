"""Fit simple methods to features: nearest neighbours, and a linear model. Each gives outputs from which a metric is computed."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dist_train.config.choice_table import Task
from dist_train.evaluation.activation import inverted

NEIGHBOURS = (1, 5, 10, 20)
TEMPERATURE = 0.07
"""Of the votes of neighbours, as in Wu et al. (2018) and DINO (Caron et al., 2021)."""
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn, the inverse of the penalty on weights; for features of unit variance."""
MOST_ITERATIONS = 200
TOGETHER = 1 << 22
"""Similarities computed at a time: 16 MB."""

Outputs = Iterator[tuple[float, Tensor]]
"""For each value of the grid: the value, and outputs float32 [M, K] for M images (logits, or numbers of a regression)."""


@dataclass(frozen=True)
class Problem:
    """A kind of task and its number of outputs, K."""

    task: Task
    outputs: int


@dataclass(frozen=True)
class Features:
    """The features of the N images of a split that could be read, in its order.

    Attributes:
        values: float32 [N, D].
        labels: as those of the split, dense: int64 [N], or float32 [N, K].
    """

    values: Tensor
    labels: Tensor


Method = Callable[[Problem, Features, Tensor, Sequence[float]], Outputs]
"""(problem, training features, features float32 [M, D], grid) to the outputs for each value of the grid."""


def neighbours(problem: Problem, train: Features, values_MD: Tensor, grid: Sequence[float]) -> Outputs:
    """Yield the outputs of the k nearest neighbours by cosine, weighted by exp(similarity / TEMPERATURE).

    Shares of votes are smoothed by one more vote for all outputs alike, so that no probability is 0.
    """
    near_MN, places_MN = _nearest(train.values, values_MD, int(max(grid)))
    for k in grid:
        near, places = near_MN[:, : int(k)], places_MN[:, : int(k)]
        votes = (near / TEMPERATURE).softmax(1)
        mean = _mean_labels(problem, train.labels, votes, places)
        count = votes.shape[1]
        if problem.task != "regression":
            prior = 0.5 if problem.task == "multilabel" else 1 / problem.outputs
            mean = (mean * count + prior) / (count + 1)
        yield k, inverted(problem.task, mean)


def _nearest(train_ND: Tensor, values_MD: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return similarity and place of the ``most`` nearest training images of each image, [M, most]; the nearest first."""
    unit_ND = F.normalize(train_ND)
    rows = max(1, TOGETHER // len(unit_ND))
    most = min(most, len(unit_ND))
    found = [(F.normalize(part) @ unit_ND.T).topk(most) for part in torch.split(values_MD, rows)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def _mean_labels(problem: Problem, labels: Tensor, votes_MN: Tensor, places_MN: Tensor) -> Tensor:
    if problem.task == "classification":
        return votes_MN.new_zeros(len(votes_MN), problem.outputs).scatter_add_(1, labels[places_MN], votes_MN)
    total = votes_MN.new_zeros(len(votes_MN), problem.outputs)
    for column in range(votes_MN.shape[1]):  # one neighbour at a time: [M, N, K] would not fit into memory
        total += votes_MN[:, column, None] * labels[places_MN[:, column]]
    return total


def linear(problem: Problem, train: Features, values_MD: Tensor, grid: Sequence[float]) -> Outputs:
    """Yield the outputs of a logistic regression (of each label alone, if they are several) or a ridge regression.

    Features get mean 0 and variance 1. Each fit starts from the weights of the fit before it, whose penalty is stronger.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    x, new = scaler.fit_transform(train.values.numpy()), scaler.transform(values_MD.numpy())
    y = train.labels.numpy()
    if problem.task == "regression":
        yield from _ridge(x, y, new, grid)
    elif problem.task == "classification":
        yield from _logistic(x, y, new, grid, problem.outputs)
    else:
        columns = [_logistic(x, column.astype(np.int64), new, grid, 2) for column in y.T]
        for found in zip(*columns, strict=True):
            yield found[0][0], torch.stack([both[:, 1] - both[:, 0] for _, both in found], dim=1)


def _ridge(x: NDArray[Any], y: NDArray[Any], new: NDArray[Any], grid: Sequence[float]) -> Outputs:
    from sklearn.linear_model import Ridge

    for strength in grid:
        found = Ridge(alpha=1 / strength).fit(x, y).predict(new)
        yield strength, torch.from_numpy(found.reshape(len(new), -1)).float()


def _logistic(x: NDArray[Any], y: NDArray[Any], new: NDArray[Any], grid: Sequence[float], outputs: int) -> Outputs:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(y)
    lowest = -float(np.log(len(y) + outputs))  # of classes without a training image
    model = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
    for strength in grid:
        logits = torch.full((len(new), outputs), lowest)
        if len(present) == 1:
            logits[:, present[0]] = 0
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the score chooses the best of the grid
                model.set_params(C=strength).fit(x, y)
            found = torch.from_numpy(model.decision_function(new)).float()
            found = found if found.ndim == 2 else torch.stack([torch.zeros_like(found), found], dim=1)
            logits[:, present] = found.log_softmax(1)
        yield strength, logits
