"""Metrics of probabilities: the order in which a class ranks the samples, and how far its probabilities can be trusted.

Average precision and AUROC of a class need its scores sorted once. 64 classes at a time are copied to contiguous memory:
reading one column of [N, K] after the other would wait for memory at every value.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dist_train.evaluation.metric_functions.scored import Floats, Scored, mean_percent

BLOCK = 64
BINS = 15
"""Bins of the calibration error, as in Guo et al. (2017)."""


def average_precisions(found: Scored) -> Floats:
    """Return the average precision of each class, float64 [K]; NaN for a class without a positive sample."""
    return per_class(found)[0]


def areas_under_roc(found: Scored) -> Floats:
    """Return the area under the ROC curve of each class against the rest, float64 [K].

    It is NaN for a class that no sample or every sample has.
    """
    return per_class(found)[1]


def mean_average_precision(found: Scored) -> float:
    """Return the mean average precision, in percent, over the classes with at least one positive sample."""
    return mean_percent(average_precisions(found))


def auroc(found: Scored) -> float:
    """Return the mean area under the ROC curve, in percent, over the classes where it is defined."""
    return mean_percent(areas_under_roc(found))


def per_class(found: Scored) -> tuple[Floats, Floats]:
    """Return the average precision and the area under the ROC curve of each class, float64 [K] each."""
    outputs_NK = found.all_outputs()
    count = outputs_NK.shape[1]
    precision, area = np.full(count, np.nan), np.full(count, np.nan)
    positives = _positives(found, count)
    for start in range(0, count, BLOCK):
        for number, scores_N in enumerate(np.ascontiguousarray(outputs_NK[:, start : start + BLOCK].T), start):
            if len(positives[number]):
                precision[number], area[number] = _of_one(scores_N, positives[number])
    return precision, area


def _positives(found: Scored, count: int) -> list[NDArray[np.intp]]:
    """Return for each class the positions of the samples that have it."""
    labels = found.labels.numpy()
    if labels.ndim == 2:
        classes, samples = np.nonzero(labels.T)
    else:
        samples = np.argsort(labels, kind="stable")
        classes = labels[samples]
    return np.split(samples, np.searchsorted(classes, np.arange(1, count)))


def _of_one(scores_N: NDArray[np.float32], positives_P: NDArray[np.intp]) -> tuple[float, float]:
    """Return average precision and area under the ROC curve; samples with equal scores share a threshold."""
    own, every = np.sort(scores_N[positives_P]), np.sort(scores_N)
    if np.isnan(every[-1]):
        return np.nan, np.nan
    own_below, below = (np.searchsorted(values, own, "left") for values in (own, every))
    precision = ((len(own) - own_below) / (len(every) - below)).mean()
    negatives = len(every) - len(own)
    if not negatives:
        return float(precision), np.nan
    own_equal = np.searchsorted(own, own, "right") - own_below
    equal = np.searchsorted(every, own, "right") - below - own_equal
    return float(precision), float((below - own_below + 0.5 * equal).mean() / negatives)


def calibration_error(found: Scored) -> float:
    """Return the expected calibration error, in percent (Guo et al., 2017): 15 bins of the top probability."""
    return _gap(found.confidences, found.ranks < 1)


def calibration_error_of(probabilities_NK: Tensor, labels_N: Tensor) -> float:
    """Return the expected calibration error, in percent, of probabilities float32 [N, K] for classes int64 [N]."""
    best = probabilities_NK.max(1)
    return _gap(best.values.double().numpy(), (best.indices == labels_N).numpy())


def _gap(confidences_N: Floats, right_N: NDArray[np.bool_]) -> float:
    bins = np.minimum((confidences_N * BINS).astype(np.int64), BINS - 1)
    hits, trust = (np.bincount(bins, weights=values, minlength=BINS) for values in (right_N, confidences_N))
    return 100 * float(np.abs(hits - trust).sum() / len(bins))
