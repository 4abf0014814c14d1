"""Metrics of a regression: for each output, and their means."""

import numpy as np

from dist_train.evaluation.metric_functions.scored import Floats, Scored


def absolute_errors(found: Scored) -> Floats:
    """Return the mean absolute error of each output, float64 [K]."""
    return np.asarray(np.abs(_errors(found)).mean(0))


def root_squared_errors(found: Scored) -> Floats:
    """Return the root mean squared error of each output, float64 [K]."""
    return np.asarray(np.sqrt((_errors(found) ** 2).mean(0)))


def r2_scores(found: Scored) -> Floats:
    """Return the coefficient of determination of each output, float64 [K].

    It is NaN if there is only one sample. As in scikit-learn, an output whose targets are all equal has 1 if every
    prediction is exact, else 0.
    """
    errors, targets = _errors(found), found.labels.numpy().astype(np.float64)
    if len(errors) < 2:
        return np.full(errors.shape[1], np.nan)
    left, total = (errors**2).sum(0), ((targets - targets.mean(0)) ** 2).sum(0)
    constant = np.where(left > 0, 0.0, 1.0)
    return np.where(total > 0, 1 - left / np.where(total > 0, total, 1.0), constant)


def mae(found: Scored) -> float:
    """Return the mean absolute error, averaged over outputs."""
    return float(absolute_errors(found).mean())


def rmse(found: Scored) -> float:
    """Return the root mean squared error of each output, averaged over outputs."""
    return float(root_squared_errors(found).mean())


def r2(found: Scored) -> float:
    """Return the coefficient of determination, averaged over outputs."""
    return float(r2_scores(found).mean())


def _errors(found: Scored) -> Floats:
    return found.all_outputs().astype(np.float64) - found.labels.numpy().astype(np.float64)
