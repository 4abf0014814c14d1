"""What the files of a run folder say, for its page."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dist_train.config.schema import Config
from dist_train.evaluation.metrics import Evaluation
from dist_train.run.attempts import attempts_of
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import Row, read_rows
from dist_train.run.predictions import Likeliest, Predictions, load_outputs, load_predictions
from dist_train.run.result import Result, load_result
from dist_train.system.files import read_json


@dataclass(frozen=True)
class Judged:
    """What the best weights said of each validation image.

    Attributes:
        step: of the weights.
        outcome: labels and predictions; ``outputs`` only if the probabilities of all classes were kept.
        likeliest: of a classification, if its probabilities were kept.
        paths: the names of the images; empty if they have none.
    """

    step: int
    outcome: Evaluation
    likeliest: Likeliest | None
    paths: list[str]

    @property
    def labels(self) -> NDArray[Any]:
        """Return class numbers int64 [N], or float32 [N, K] for multilabel and regression."""
        found: NDArray[Any] = self.outcome.labels.numpy()
        return found

    @property
    def outputs(self) -> NDArray[np.float32] | None:
        """Return probabilities or numbers, float32 [N, K]; None if not all were kept."""
        return None if self.outcome.outputs is None else self.outcome.as_scored().all_outputs()


@dataclass(frozen=True)
class Gathered:
    """A run, as its folder tells it.

    Attributes:
        rows: the rows of each split, in the order of steps, each step once.
        attempts: an entry for each start, the oldest first.
        judged: None if there are no predictions.
        missing: what the page cannot show, and why: one sentence each.
    """

    folder: RunDir
    config: Config
    result: Result
    rows: dict[str, list[Row]]
    attempts: list[dict[str, Any]]
    classes: list[str]
    judged: Judged | None
    missing: list[str] = field(default_factory=list)


def gather(folder: RunDir, cfg: Config) -> Gathered:
    """Read the files of a run folder."""
    classes = [str(name) for name in read_json(folder.classes, default=[])]
    missing: list[str] = []
    judged = _of_classes(folder, classes) if cfg.data.task == "classification" else _of_numbers(folder, cfg, classes)
    if judged is None:
        missing.append(
            f"{folder.predictions.name} is damaged, or of other classes than classes.json: no classes and no images"
            if folder.predictions.exists()
            else f"the run has no {folder.predictions.name}: no evaluation is saved yet, so there are no classes and no images"
        )
    elif cfg.data.task == "classification" and judged.likeliest is None:
        missing.append("an older version has kept no probabilities: no curves of classes, no calibration, no images")
    elif judged.outputs is None:
        missing.append(
            f"{folder.predictions.name} keeps the probabilities of the likeliest classes only: no precision-recall and ROC curves"
        )
    try:
        rows = _rows(folder.metrics)
    except OSError as error:
        rows = {}
        missing.append(f"{folder.metrics.name} cannot be read ({error.strerror}): no curves of training")
    return Gathered(folder, cfg, load_result(folder), rows, attempts_of(folder), classes, judged, missing)


def _rows(path: Path) -> dict[str, list[Row]]:
    """Return the rows of each split. Raise OSError if the file exists and cannot be read."""
    found: dict[str, dict[int, Row]] = {}
    for row in read_rows(path):
        found.setdefault(row["split"], {})[row["step"]] = row
    return {split: [rows[step] for step in sorted(rows)] for split, rows in found.items()}


def _of_classes(folder: RunDir, classes: list[str]) -> Judged | None:
    found = load_predictions(folder.predictions)
    if found is None or not _fits(found, len(classes)):
        return None
    labels, pred = (torch.from_numpy(numbers.astype(np.int64)) for numbers in (found.label_N, found.pred_N))
    probabilities = None if found.likeliest is None else _of_all(found.likeliest, len(classes))
    outcome = _evaluation("classification", labels, pred, probabilities)
    return Judged(found.step, outcome, found.likeliest, found.paths)


def _fits(found: Predictions, classes: int) -> bool:
    numbers = [found.label_N, found.pred_N, *([found.likeliest.classes_NT] if found.likeliest else [])]
    return len(found.label_N) > 0 and max(int(each.max(initial=0)) for each in numbers) < classes


def _of_all(kept: Likeliest, classes: int) -> torch.Tensor | None:
    """Return the probabilities in the order of classes, float32 [N, K]; None if not all were kept."""
    if kept.classes_NT.shape[1] != classes:
        return None
    found_NK = np.zeros(kept.classes_NT.shape, np.float32)
    np.put_along_axis(found_NK, kept.classes_NT, kept.probabilities_NT.astype(np.float32), axis=1)
    return torch.from_numpy(found_NK)


def _of_numbers(folder: RunDir, cfg: Config, classes: list[str]) -> Judged | None:
    found = load_outputs(folder.predictions)
    if found is None or not len(found.outputs_NK) or found.outputs_NK.shape[1] != len(classes):
        return None
    outputs, targets = torch.from_numpy(found.outputs_NK), torch.from_numpy(found.targets_NK)
    return Judged(found.step, _evaluation(cfg.data.task, targets, None, outputs), None, found.paths)


def _evaluation(
    task: Any, labels: torch.Tensor, classes: torch.Tensor | None, outputs: torch.Tensor | None
) -> Evaluation:
    return Evaluation(task, {}, np.ones(len(labels), np.bool_), labels, classes, outputs)


def number(row: Row, key: str) -> float:
    """Return a value of a row; NaN if it is missing or not a number."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
