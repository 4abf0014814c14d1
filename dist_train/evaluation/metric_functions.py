"""One function for each metric, and for each metric per class or output. ``config/choices.py`` lists them.

A metric takes all samples of a split and returns a float; shares are in percent. torchmetrics computes them. It takes one
second to import, so it is imported inside the functions.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """The N samples of a split that could be read, in data-set order.

    Attributes:
        losses: float64 [N], the loss of each sample: cross-entropy, binary cross-entropy or squared error.
        in_top1: float64 [N], 1 if the label is the most likely class, else 0. Empty unless the task is classification.
        in_top5: the same for the five most likely classes.
        labels: int64 [N], or float32 [N, K] for multilabel and regression.
        classes: int64 [N], the most likely class of each sample; None unless the task is classification.
        outputs: float32 [N, K], probabilities or regression outputs; for classification None unless they were kept.
    """

    losses: Floats
    in_top1: Floats
    in_top5: Floats
    labels: Tensor
    classes: Tensor | None
    outputs: Tensor | None


def loss(found: Scored) -> float:
    """Return the mean loss."""
    return float(found.losses.mean())


def top1(found: Scored) -> float:
    """Return the percentage of samples whose most likely class is the label."""
    return 100 * float(found.in_top1.mean())


def top5(found: Scored) -> float:
    """Return the percentage of samples whose label is among the five most likely classes."""
    return 100 * float(found.in_top5.mean())


def macro_f1(found: Scored) -> float:
    """Return the mean F1, in percent, over the classes that occur among labels or predictions."""
    if found.classes is None:
        return _percent(f1_of_labels(_outputs(found), found.labels))
    count = int(max(found.classes.max(), found.labels.max())) + 1
    return _percent(f1_of_classes(found.classes, found.labels, count))


def mean_average_precision(found: Scored) -> float:
    """Return the mean average precision, in percent, over the classes with at least one positive sample."""
    return _percent(average_precisions(_outputs(found), found.labels))


def mae(found: Scored) -> float:
    """Return the mean absolute error, averaged over outputs."""
    return float(absolute_errors(_outputs(found), found.labels).mean())


def rmse(found: Scored) -> float:
    """Return the root mean squared error of each output, averaged over outputs."""
    return float(root_squared_errors(_outputs(found), found.labels).mean())


def r2(found: Scored) -> float:
    """Return the coefficient of determination, averaged over outputs."""
    return float(r2_scores(_outputs(found), found.labels).mean())


def _outputs(found: Scored) -> Tensor:
    assert found.outputs is not None
    return found.outputs


def _percent(values: Tensor) -> float:
    """Return 100 times the mean of the values that are not NaN; NaN if all are NaN."""
    return 100 * float(values.double().nanmean())


def f1_of_classes(classes_N: Tensor, labels_N: Tensor, count: int) -> Tensor:
    """Return the F1 of each class, [K]; NaN for a class that occurs neither in labels nor in predictions."""
    from torchmetrics.functional.classification import multiclass_f1_score

    values: Tensor = multiclass_f1_score(classes_N, labels_N, num_classes=max(2, count), average=None)[:count]
    seen = torch.bincount(classes_N, minlength=count) + torch.bincount(labels_N, minlength=count) > 0
    return torch.where(seen, values, torch.nan)


def average_precisions(outputs_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """Return the average precision of each class, [K]; NaN for a class without a positive sample."""
    from torchmetrics.functional.classification import binary_average_precision

    positive = labels_NK.any(0)
    return torch.stack(
        [
            binary_average_precision(outputs, labels.long()) if there else torch.tensor(torch.nan)
            for outputs, labels, there in zip(outputs_NK.T, labels_NK.T, positive, strict=True)
        ]
    )


def f1_of_labels(outputs_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """Return the F1 of each class, [K], at a threshold of 0.5; NaN if a class occurs in neither labels nor predictions."""
    from torchmetrics.functional.classification import multilabel_f1_score

    # For one class torchmetrics expects other shapes; an empty second column avoids that special case.
    wide = [F.pad(values, (0, 1)) for values in (outputs_NK, labels_NK)]
    values: Tensor = multilabel_f1_score(wide[0], wide[1].long(), num_labels=wide[0].shape[1], average=None)[:-1]
    return torch.where((outputs_NK > 0.5).any(0) | labels_NK.any(0), values, torch.nan)


def absolute_errors(outputs_NK: Tensor, targets_NK: Tensor) -> Tensor:
    """Return the mean absolute error of each output, [K]."""
    from torchmetrics.functional.regression import mean_absolute_error

    return torch.as_tensor(
        mean_absolute_error(outputs_NK.double(), targets_NK.double(), num_outputs=outputs_NK.shape[1])
    ).reshape(-1)


def root_squared_errors(outputs_NK: Tensor, targets_NK: Tensor) -> Tensor:
    """Return the root mean squared error of each output, [K]."""
    from torchmetrics.functional.regression import mean_squared_error

    return torch.as_tensor(
        mean_squared_error(outputs_NK.double(), targets_NK.double(), squared=False, num_outputs=outputs_NK.shape[1])
    ).reshape(-1)


def r2_scores(outputs_NK: Tensor, targets_NK: Tensor) -> Tensor:
    """Return the coefficient of determination of each output, [K]; NaN if there is only one sample."""
    from torchmetrics.functional.regression import r2_score

    if len(outputs_NK) < 2:
        return torch.full((outputs_NK.shape[1],), torch.nan)
    return torch.as_tensor(r2_score(outputs_NK.double(), targets_NK.double(), multioutput="raw_values")).reshape(-1)
