"""What an evaluation finds: one row for each validation sample, and metrics over all rows by torchmetrics.

Rows are put together in data-set order and metrics are computed from all of them by rank 0, so that they are the same at
any world size, to the last digit, and one process of a node has to load torchmetrics. Shares are in percent.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dist_train.config.choices import FALLING, METRICS, Task
from dist_train.data.index import Split
from dist_train.distributed.group import Dist
from dist_train.errors import DataError


def better(metric: str, new: float, old: float, by: float = 0.0) -> bool:
    """Whether ``new`` beats ``old``: losses and errors should fall, the others rise. Anything beats NaN."""
    if math.isnan(old):
        return not math.isnan(new)
    return new < old - by if metric in FALLING else new > old + by


Floats = NDArray[np.float64]


COUNTED, LOSS, TOP1, TOP5, CLASS = range(5)
"""Columns of a row. Multilabel and regression have the first two, and an output for each class or number instead."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome for the ``N`` samples that could be read, in data-set order.

    Attributes:
        scores: metrics by name: ``METRICS[task]``.
        counted: whether each sample of the split could be read.
        labels: int64 [N] or float32 [N, K].
        classes: the most likely class int64 [N]; None but for classification.
        outputs: probabilities, or the numbers of a regression, float32 [N, K]; None for classification unless kept.
    """

    task: Task
    scores: dict[str, float]
    counted: NDArray[np.bool_]
    labels: Tensor
    classes: Tensor | None
    outputs: Tensor | None


class SampleScores:
    """The rows that this rank has scored; zeros in the places of other ranks.

    Samples whose index is ``len(split)`` (bad images, see ``ImageDataset``) are scored into a place of no return.

    Args:
        keep: keep all probabilities of a classification, for ensembles.
    """

    def __init__(self, split: Split, task: Task, outputs: int, device: torch.device, keep: bool = False) -> None:
        self._labels, self._task = torch.from_numpy(split.labels), task
        columns = len((COUNTED, LOSS, TOP1, TOP5, CLASS)) if task == "classification" else LOSS + 1
        self._rows = torch.zeros((len(split) + 1, columns), dtype=torch.float64, device=device)
        self._outputs = None
        if keep or task != "classification":
            self._outputs = torch.zeros((len(split) + 1, outputs), dtype=torch.float32, device=device)

    def add(self, logits_BK: Tensor, labels: Tensor, indices_B: Tensor) -> None:
        """Score a batch with the plain loss of its task: cross-entropy, binary cross-entropy or squared error."""
        logits_BK = logits_BK.float()
        if self._task == "classification":
            ranked = logits_BK.topk(min(5, logits_BK.shape[1])).indices
            hits = ranked == labels[:, None]
            scores = [F.cross_entropy(logits_BK, labels, reduction="none"), hits[:, 0], hits.any(1), ranked[:, 0]]
            outputs = logits_BK.softmax(1)
        elif self._task == "multilabel":
            scores = [F.binary_cross_entropy_with_logits(logits_BK, labels, reduction="none").mean(1)]
            outputs = logits_BK.sigmoid()
        else:
            scores = [(logits_BK - labels).square().mean(1)]
            outputs = logits_BK
        counted = torch.ones_like(scores[0])
        self._rows[indices_B] = torch.stack([score.double() for score in (counted, *scores)], dim=1)
        if self._outputs is not None:
            self._outputs[indices_B] = outputs

    def read(self, group: Dist) -> Evaluation:
        """The outcome over all samples of all ranks; every rank must call it.

        Raises:
            DataError: not one image could be read.
        """
        rows = group.sum(self._rows[:-1].contiguous()).cpu()
        counted = rows[:, COUNTED] > 0
        if not counted.any():
            raise DataError("none of the validation images can be read")
        outputs = None
        if self._outputs is not None:
            outputs = group.sum(self._outputs[:-1].contiguous()).cpu()[counted]
        rows, labels = rows[counted], self._labels[counted]
        classes = rows[:, CLASS].long() if self._task == "classification" else None
        scores = group.from_main(lambda: _metrics(self._task, rows.numpy(), labels, classes, outputs))
        return Evaluation(self._task, scores, counted.numpy(), labels, classes, outputs)


def _metrics(
    task: Task, rows: Floats, labels: Tensor, classes: Tensor | None, outputs: Tensor | None
) -> dict[str, float]:
    """``METRICS[task]`` over all samples, by name."""
    found: dict[str, float] = {"loss": float(rows[:, LOSS].mean())}
    if classes is not None:
        found |= {"top1": 100 * float(rows[:, TOP1].mean()), "top5": 100 * float(rows[:, TOP5].mean())}
        found["macro_f1"] = _percent(f1_of_classes(classes, labels, int(max(classes.max(), labels.max())) + 1))
    elif task == "multilabel":
        assert outputs is not None
        found["map"] = _percent(average_precisions(outputs, labels))
        found["macro_f1"] = _percent(f1_of_labels(outputs, labels))
    else:
        assert outputs is not None
        found |= {name: float(values.mean()) for name, values in regression_errors(outputs, labels).items()}
    return {name: found[name] for name in METRICS[task]}


def _percent(values: Tensor) -> float:
    """100 times the mean of those that are defined; NaN if none is."""
    return 100 * float(values.double().nanmean())


def f1_of_classes(classes_N: Tensor, labels_N: Tensor, count: int) -> Tensor:
    """F1 of each class [K]; NaN for a class that is neither among the labels nor among the predictions."""
    from torchmetrics.functional.classification import multiclass_f1_score  # a second to import

    values: Tensor = multiclass_f1_score(classes_N, labels_N, num_classes=max(2, count), average=None)[:count]
    seen = torch.bincount(classes_N, minlength=count) + torch.bincount(labels_N, minlength=count) > 0
    return torch.where(seen, values, torch.nan)


def average_precisions(outputs_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """Average precision of each class [K]; NaN for a class without a positive."""
    from torchmetrics.functional.classification import binary_average_precision

    positive = labels_NK.any(0)
    return torch.stack(
        [
            binary_average_precision(outputs, labels.long()) if there else torch.tensor(torch.nan)
            for outputs, labels, there in zip(outputs_NK.T, labels_NK.T, positive, strict=True)
        ]
    )


def f1_of_labels(outputs_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """F1 of each class [K] at a probability of 0.5; NaN for a class neither among the labels nor the predictions."""
    from torchmetrics.functional.classification import multilabel_f1_score

    # With one class torchmetrics wants another shape of the same thing; a second, empty column avoids the case.
    wide = [F.pad(values, (0, 1)) for values in (outputs_NK, labels_NK)]
    values: Tensor = multilabel_f1_score(wide[0], wide[1].long(), num_labels=wide[0].shape[1], average=None)[:-1]
    return torch.where((outputs_NK > 0.5).any(0) | labels_NK.any(0), values, torch.nan)


def regression_errors(outputs_NK: Tensor, labels_NK: Tensor) -> dict[str, Tensor]:
    """``mae``, ``rmse`` and ``r2`` of each output [K]. R2 is NaN for a single sample."""
    from torchmetrics.functional import regression

    outputs, labels = outputs_NK.double(), labels_NK.double()
    count = outputs.shape[1]
    r2 = torch.full((count,), torch.nan)
    if len(outputs) > 1:
        r2 = regression.r2_score(outputs, labels, multioutput="raw_values")
    found: dict[str, Any] = {
        "mae": regression.mean_absolute_error(outputs, labels, num_outputs=count),
        "rmse": regression.mean_squared_error(outputs, labels, squared=False, num_outputs=count),
        "r2": r2,
    }
    return {name: torch.as_tensor(value).reshape(-1) for name, value in found.items()}
