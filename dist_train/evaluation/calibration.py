"""Temperature and thresholds, fitted on a validation set and kept in ``calibration.json`` of the run folder.

A temperature T divides the outputs, so that probabilities are as high as the share of right answers (Guo et al., 2017). It
changes no ranking. A threshold for each label of a multilabel task is the one with the best F1.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dist_train.config.choice_table import Task
from dist_train.evaluation.activation import activated
from dist_train.system.files import read_json, write_json

USUAL_THRESHOLD = 0.5
PARTS = 5
"""Of the validation set: each is judged by a fit to the others."""
HOTTEST = 20.0
"""Largest temperature, and 1 / the smallest: a model without an error would have a temperature of 0."""


@dataclass(frozen=True)
class Calibration:
    """What was fitted.

    Attributes:
        temperature: divides the outputs.
        thresholds: for each label of a multilabel task, the probability from which on an image has it; else empty.
        tta: ``eval.tta`` of the fit: the temperature of one view is another one than that of several.
        weights: digest of the file of weights.
    """

    temperature: float
    thresholds: tuple[float, ...]
    tta: dict[str, Any] | None
    weights: str

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def applied(self, outputs_BK: Tensor) -> Tensor:
        """Return outputs [B, K] of which probabilities are to be computed."""
        return outputs_BK / self.temperature


def read_calibration(path: Path, labels: int) -> Calibration | None:
    """Return what the file holds; None if there is none, or if it is damaged or of another number of labels."""
    match read_json(path, default=None):
        case {
            "temperature": float(heat),
            "thresholds": list(each),
            "tta": dict() | None as tta,
            "weights": str(weights),
        }:
            right = all(isinstance(value, float) and 0 <= value <= 1 for value in each) and len(each) in (0, labels)
            if right and 1 / HOTTEST <= heat <= HOTTEST:
                return Calibration(heat, tuple(each), tta, weights)
    return None


def fit_temperature(task: Task, outputs_NK: Tensor, labels: Tensor) -> float:
    """Return the temperature, between 1 / ``HOTTEST`` and ``HOTTEST``, with the lowest cross-entropy.

    Args:
        outputs_NK: float32 [N, K], outputs before the activation.
        labels: int64 [N], or float32 [N, K] of a multilabel task.
    """
    # tanh keeps it between the bounds, where a line search may look far.
    bounded = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([bounded], max_iter=50, line_search_fn="strong_wolfe")
    outputs, targets = outputs_NK.double(), labels if labels.ndim == 1 else labels.double()
    loss_of = F.cross_entropy if task == "classification" else F.binary_cross_entropy_with_logits

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(outputs * torch.exp(-_log_temperature(bounded)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(torch.exp(_log_temperature(bounded.detach())))


def _log_temperature(bounded: Tensor) -> Tensor:
    """Return the logarithm of the temperature that an unbounded number stands for."""
    return math.log(HOTTEST) * torch.tanh(bounded)


def fit_thresholds(probabilities_NK: NDArray[np.float32], labels_NK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each label the threshold with the best F1, float64 [K]: midway between two probabilities.

    A label that no image has keeps ``USUAL_THRESHOLD``.
    """
    pairs = zip(probabilities_NK.T, labels_NK.T, strict=True)
    return np.array([_best_threshold(scores_N.astype(np.float64), labels_N > 0) for scores_N, labels_N in pairs])


def _best_threshold(scores_N: NDArray[np.float64], has_N: NDArray[np.bool_]) -> float:
    if not has_N.any():
        return USUAL_THRESHOLD
    order = np.argsort(-scores_N, kind="stable")
    scores, hits = scores_N[order], has_N[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + has_N.sum())
    below = np.append(scores[1:], 0.0)
    f1[scores == below] = -1  # images with equal scores are on the same side
    best = int(f1.argmax())
    return float((scores[best] + below[best]) / 2)


def cross_fitted(task: Task, outputs_NK: Tensor, labels: Tensor) -> tuple[Tensor, NDArray[np.bool_] | None]:
    """Return probabilities [N, K], and for multilabel decisions [N, K], of images that the fit has not seen.

    Image n is judged by a fit on the images of the other parts, n modulo ``PARTS``: an estimate for images to come.
    """
    part_N = torch.arange(len(outputs_NK)) % PARTS
    probabilities = torch.empty_like(outputs_NK)
    decisions = np.zeros(tuple(outputs_NK.shape), bool) if task == "multilabel" else None
    for part in range(min(PARTS, len(outputs_NK))):
        own, rest = part_N == part, part_N != part
        heat = fit_temperature(task, outputs_NK[rest], labels[rest])
        probabilities[own] = activated(task, outputs_NK[own] / heat)
        if decisions is not None:
            fitted = fit_thresholds(activated(task, outputs_NK[rest] / heat).numpy(), labels[rest].numpy())
            decisions[own.numpy()] = probabilities[own].numpy() > fitted
    return probabilities, decisions
