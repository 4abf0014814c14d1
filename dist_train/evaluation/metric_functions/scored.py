"""What a metric gets: all samples of a split, with what the model said about each."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """The N samples of a split that could be read, in data-set order; K classes or outputs.

    Attributes:
        labels: int64 [N], or float32 [N, K] for multilabel and regression.
        losses: float64 [N], the loss of each sample: cross-entropy, binary cross-entropy or squared error.
        outputs: float32 [N, K], probabilities or regression outputs. For classification only if a metric needs them.
        classes: int64 [N], the most likely class of each sample; None unless the task is classification.
        ranks: float64 [N], how many classes are more likely than the label, counted up to the largest k of the top-k
            metrics. Empty unless the task is classification.
        confidences: float64 [N], the probability of the most likely class. Empty unless the task is classification.
    """

    labels: Tensor
    losses: Floats
    outputs: Tensor | None = None
    classes: Tensor | None = None
    ranks: Floats = field(default_factory=lambda: np.empty(0))
    confidences: Floats = field(default_factory=lambda: np.empty(0))

    def all_outputs(self) -> NDArray[np.float32]:
        """Return the outputs as an array, float32 [N, K]."""
        assert self.outputs is not None, "the metric's row in config/choices.py must say that it needs them"
        found: NDArray[np.float32] = self.outputs.numpy()
        return found


def loss(found: Scored) -> float:
    """Return the mean loss."""
    return float(found.losses.mean())


def mean_percent(values: Floats) -> float:
    """Return 100 times the mean of the values that are not NaN; NaN if all are NaN."""
    return 100 * float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
