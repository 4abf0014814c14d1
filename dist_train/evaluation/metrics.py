"""The result of an evaluation: one row per validation sample, and metrics over all rows.

Rank 0 combines the rows of all ranks in data-set order and computes the metrics from them. So the metrics are
bit-identical at any world size. Shares are in percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dist_train.config.choice_table import Task
from dist_train.config.choices import METRICS
from dist_train.config.sections.eval import EvalConfig
from dist_train.config.user_code import function_of
from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.evaluation.activation import activated
from dist_train.evaluation.metric_functions.scored import Scored
from dist_train.evaluation.output_rows import OutputRows

COUNTED, LOSS, RANK, CLASS, CONFIDENCE = range(5)
"""Columns of a row. Multilabel and regression use only the first two, since they keep all outputs instead."""


ALL_UP_TO, MOST_KEPT, FEW = 100, 1 << 22, 5
"""All probabilities of an image are kept up to so many classes and so many numbers in total, else the highest few."""


def kept_classes(images: int, classes: int) -> int:
    """Return the number of classes of which the probability is kept for each image."""
    return classes if classes <= ALL_UP_TO and images * classes <= MOST_KEPT else min(classes, FEW)


def reported(cfg: EvalConfig, task: Task) -> list[str]:
    """Return the metrics that an evaluation reports: the usual ones of the task, ``eval.metrics``, ``eval.metric``."""
    usual = [name for name, row in METRICS.of_task(task).items() if task in row.usual_for]
    return list(dict.fromkeys([*usual, *cfg.metrics, cfg.metric]))


@dataclass(frozen=True)
class Evaluation:
    """The result for the N samples that could be read, in data-set order.

    Attributes:
        scores: metrics by name; the same on every rank.
        counted: bool, one value per sample of the split: whether it could be read.
        labels: int64 [N], or float32 [N, K] for multilabel and regression.
        classes: int64 [N], the most likely class of each sample; None unless the task is classification.
        outputs: float32 [N, K], probabilities or regression outputs; None on the other ranks than 0, and for
            classification if no metric needed them.
        likeliest: float32 [N, 2 T], the T likeliest classes of each sample and then their probabilities, the highest
            first; None on the other ranks than 0, and unless the task is classification.
    """

    task: Task
    scores: dict[str, float]
    counted: NDArray[np.bool_]
    labels: Tensor
    classes: Tensor | None
    outputs: Tensor | None
    likeliest: Tensor | None = None

    def as_scored(self) -> Scored:
        """Return what the metrics per class need."""
        return Scored(self.labels, np.empty(0), self.outputs, self.classes)


class SampleScores:
    """The rows that this rank has scored; the rows of other ranks are zeros.

    Unreadable images have the index ``len(split)`` (see ``ImageDataset``). Their scores go to an extra last row, which is
    discarded.

    Args:
        metrics: the names of the metrics to compute.
        keep: keep the probabilities of all classes, for ensembles of classifiers.
    """

    def __init__(
        self,
        split: Split,
        task: Task,
        outputs: int,
        device: torch.device,
        metrics: Sequence[str],
        keep: bool = False,
    ) -> None:
        self._split, self._task, self._device, self._metrics = split, task, device, metrics
        rows = [METRICS.find(name) for name in metrics]
        self._depth = min(outputs, max(row.given.get("k", 1) for row in rows)) if rows else 1
        columns = len((COUNTED, LOSS, RANK, CLASS, CONFIDENCE)) if task == "classification" else LOSS + 1
        self._rows = torch.zeros((len(split) + 1, columns), dtype=torch.float64, device=device)
        self._outputs = None
        if keep or task != "classification" or any(row.needs_outputs for row in rows):
            self._outputs = OutputRows(len(split), outputs, device)
        self._kept = kept_classes(len(split), outputs)
        self._likeliest = OutputRows(len(split), 2 * self._kept, device) if task == "classification" else None

    def add(self, logits_BK: Tensor, labels: Tensor, indices_B: Tensor) -> None:
        """Score a batch. The loss depends on the task: cross-entropy, binary cross-entropy or squared error."""
        logits_BK = logits_BK.to(torch.float32, copy=True)  # CUDA graphs write the outputs of the next batch there
        if self._task == "classification":
            scores = self._of_classes(logits_BK, labels)
        elif self._task == "multilabel":
            scores = [F.binary_cross_entropy_with_logits(logits_BK, labels, reduction="none").mean(1)]
        else:
            scores = [(logits_BK - labels).square().mean(1)]
        counted = torch.ones_like(scores[0])
        self._rows[indices_B] = torch.stack([score.double() for score in (counted, *scores)], dim=1)
        if self._outputs is not None:
            self._outputs.add(activated(self._task, logits_BK), indices_B)
        if self._likeliest is not None:
            highest = activated(self._task, logits_BK).topk(self._kept)
            self._likeliest.add(torch.cat([highest.indices.float(), highest.values], dim=1), indices_B)

    def _of_classes(self, logits_BK: Tensor, labels_B: Tensor) -> list[Tensor]:
        best = logits_BK.topk(self._depth)
        missed = best.indices != labels_B[:, None]
        # Counts the classes before the label: cumprod is 1 up to the label, 0 from it on.
        ranks = missed.long().cumprod(1).sum(1)
        confidence = (best.values[:, 0] - logits_BK.logsumexp(1)).exp()
        return [F.cross_entropy(logits_BK, labels_B, reduction="none"), ranks, best.indices[:, 0], confidence]

    def read(self, group: Dist) -> Evaluation:
        """Return the result over the samples of all ranks. Every rank must call it.

        Raises:
            DataError: no image could be read.
        """
        every = self.scored(group)
        found = every.found
        scores = group.from_main(lambda: _metrics(self._metrics, found))
        counted = every.counted.numpy()
        return Evaluation(self._task, scores, counted, found.labels, found.classes, found.outputs, every.likeliest)

    def scored(self, group: Dist) -> "ScoredSamples":
        """Return the samples of all ranks. Every rank must call it.

        Raises:
            DataError: no image could be read.
        """
        rows = group.sum(self._rows[:-1].contiguous()).cpu()
        outputs = None if self._outputs is None else self._outputs.of_all_ranks(group)
        likeliest = None if self._likeliest is None else self._likeliest.of_all_ranks(group)
        counted = rows[:, COUNTED] > 0
        if not counted.any():
            raise DataError("none of the validation images can be read")
        everything = bool(counted.all())
        labels = torch.from_numpy(self._split.labels[:])
        rows, labels = rows[counted], labels if everything else labels[counted]
        if outputs is not None and not everything:
            outputs = outputs[counted]
        if likeliest is not None and not everything:
            likeliest = likeliest[counted]
        return ScoredSamples(_scored(self._task, rows, labels, outputs), counted, likeliest)


@dataclass(frozen=True)
class ScoredSamples:
    """The samples that could be read, and which these are, bool [N]; for ``likeliest`` see ``Evaluation``."""

    found: Scored
    counted: Tensor
    likeliest: Tensor | None


def _scored(task: Task, rows: Tensor, labels: Tensor, outputs: Tensor | None) -> Scored:
    columns = rows.numpy().T
    if task != "classification":
        return Scored(labels, columns[LOSS], outputs)
    return Scored(labels, columns[LOSS], outputs, rows[:, CLASS].long(), columns[RANK], columns[CONFIDENCE])


def _metrics(names: Sequence[str], found: Scored) -> dict[str, float]:
    """Return the metrics of these names."""
    return {name: metric_value(name, found) for name in names}


def metric_value(name: str, found: Scored) -> float:
    """Return a metric over all rows."""
    return float(function_of(METRICS, name)(found, **METRICS.find(name).given))
