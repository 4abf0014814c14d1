"""The result of an evaluation: one row per validation sample, and metrics over all rows.

Rank 0 combines the rows of all ranks in data-set order and computes the metrics from them. So the metrics are
bit-identical at any world size, and only one process imports torchmetrics. Shares are in percent.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dist_train.config.choice_table import Task
from dist_train.config.choices import METRICS, falls
from dist_train.config.user_code import function_of
from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.evaluation.metric_functions import Scored


def better(metric: str, new: float, old: float, by: float = 0.0) -> bool:
    """Return whether ``new`` is better than ``old`` by more than ``by``.

    For losses and errors lower is better, for other metrics higher. Every number is better than NaN.
    """
    if math.isnan(old):
        return not math.isnan(new)
    return new < old - by if falls(metric) else new > old + by


COUNTED, LOSS, TOP1, TOP5, CLASS = range(5)
"""Columns of a row. Multilabel and regression use only the first two, since they keep all outputs instead."""


@dataclass(frozen=True)
class Evaluation:
    """The result for the N samples that could be read, in data-set order.

    Attributes:
        scores: metrics by name: all rows of ``config.choices.METRICS`` for the task.
        counted: bool, one value per sample of the split: whether it could be read.
        labels: int64 [N], or float32 [N, K] for multilabel and regression.
        classes: int64 [N], the most likely class of each sample; None unless the task is classification.
        outputs: float32 [N, K], probabilities or regression outputs; for classification None unless they were kept.
    """

    task: Task
    scores: dict[str, float]
    counted: NDArray[np.bool_]
    labels: Tensor
    classes: Tensor | None
    outputs: Tensor | None


class SampleScores:
    """The rows that this rank has scored; the rows of other ranks are zeros.

    Unreadable images have the index ``len(split)`` (see ``ImageDataset``). Their scores go to an extra last row, which is
    discarded.

    Args:
        keep: keep the probabilities of all classes, for ensembles of classifiers.
    """

    def __init__(self, split: Split, task: Task, outputs: int, device: torch.device, keep: bool = False) -> None:
        self._labels, self._task = torch.from_numpy(split.labels), task
        columns = len((COUNTED, LOSS, TOP1, TOP5, CLASS)) if task == "classification" else LOSS + 1
        self._rows = torch.zeros((len(split) + 1, columns), dtype=torch.float64, device=device)
        self._outputs = None
        if keep or task != "classification":
            self._outputs = torch.zeros((len(split) + 1, outputs), dtype=torch.float32, device=device)

    def add(self, logits_BK: Tensor, labels: Tensor, indices_B: Tensor) -> None:
        """Score a batch. The loss depends on the task: cross-entropy, binary cross-entropy or squared error."""
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
        """Return the result over the samples of all ranks. Every rank must call it.

        Raises:
            DataError: no image could be read.
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
        columns = rows.numpy().T
        in_top1, in_top5 = columns[TOP1 : TOP5 + 1] if self._task == "classification" else np.empty((2, 0))
        found = Scored(columns[LOSS], in_top1, in_top5, labels, classes, outputs)
        scores = group.from_main(lambda: _metrics(self._task, found))
        return Evaluation(self._task, scores, counted.numpy(), labels, classes, outputs)


def _metrics(task: Task, found: Scored) -> dict[str, float]:
    """Return all metrics of ``task``, by name."""
    return {name: float(function_of(METRICS, name)(found)) for name in METRICS.of_task(task)}
