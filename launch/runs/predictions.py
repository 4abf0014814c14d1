"""The classes and images on which two runs differ, from the ``predictions.npz`` of both."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, load_predictions
from dist_train.system.files import read_json
from launch.runs.reader import Run

MAX_PAIRS, MAX_CLASSES, MAX_IMAGES = 10, 12, 40
RESAMPLES = 20_000


@dataclass(frozen=True)
class Pair:
    """Two runs ``a`` and ``b`` on the same validation images.

    ``difference`` is the accuracy of b less that of a, in percent, and ``interval`` holds 95 % of its bootstrap distribution.

    A row of ``classes`` is [class, images, accuracy of a, accuracy of b, difference]; a row of ``shown`` is [image, label,
    prediction of a, prediction of b].
    """

    a: str
    b: str
    images: int
    same: int
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    difference: float
    interval: tuple[float, float]
    classes: list[list[Any]]
    shown: list[list[str]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def pairs_of(runs: list[Run]) -> list[Pair]:
    """Compare the first run that has predictions with every other that has them for the same images."""
    found = [(run, predictions) for run in runs if (predictions := load_predictions(RunDir(run.path).predictions))]
    return [pair for b in found[1:] if (pair := compare(found[0], b)) is not None][:MAX_PAIRS]


def compare(first: tuple[Run, Predictions], second: tuple[Run, Predictions]) -> Pair | None:
    """Return the comparison of two runs; None if their predictions are not for the same images."""
    (run_a, a), (run_b, b) = first, second
    if (
        not len(a.label_N)
        or len(a.label_N) != len(b.label_N)
        or not np.array_equal(a.label_N, b.label_N)
        or a.paths != b.paths
    ):
        return None
    names = _class_names(run_a, a, b)
    right_a, right_b = a.pred_N == a.label_N, b.pred_N == b.label_N
    differ = np.flatnonzero(right_a != right_b)
    shown = [
        [a.paths[i] if a.paths else f"#{i}", names[a.label_N[i]], names[a.pred_N[i]], names[b.pred_N[i]]]
        for i in differ[:MAX_IMAGES].tolist()
    ]
    return Pair(
        a=run_a.name,
        b=run_b.name,
        images=len(a.label_N),
        same=int((a.pred_N == b.pred_N).sum()),
        both_right=int((right_a & right_b).sum()),
        only_a=int((right_a & ~right_b).sum()),
        only_b=int((right_b & ~right_a).sum()),
        both_wrong=int((~right_a & ~right_b).sum()),
        difference=round(100 * float(right_b.mean() - right_a.mean()), 4),
        interval=difference_interval(len(a.label_N), int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())),
        classes=_by_class(names, a.label_N, right_a, right_b),
        shown=shown,
    )


def difference_interval(images: int, only_a: int, only_b: int) -> tuple[float, float]:
    """Return the bounds of 95 % of the differences in accuracy, in percent, over resamples of the images.

    The paired bootstrap (Efron and Tibshirani, 1993) draws images with replacement, for both runs the same ones. Each image counts
    for a, for b or for neither, so that the counts of a resample are a multinomial draw.
    """
    shares = np.array([only_a, only_b, images - only_a - only_b]) / images
    counts = np.random.default_rng(0).multinomial(images, shares, RESAMPLES)
    low, high = np.percentile(100 * (counts[:, 1] - counts[:, 0]) / images, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def _by_class(names: list[str], label_N: Any, right_a: Any, right_b: Any) -> list[list[Any]]:
    """Return the classes whose accuracy differs most, largest difference first."""
    count = np.bincount(label_N, minlength=len(names))
    hits_a = np.bincount(label_N[right_a], minlength=len(names))
    hits_b = np.bincount(label_N[right_b], minlength=len(names))
    changed = [
        k for k in np.argsort(-np.abs(hits_a - hits_b) / np.maximum(count, 1), kind="stable") if hits_a[k] != hits_b[k]
    ]
    return [
        [
            names[k],
            int(count[k]),
            round(hits_a[k] / count[k], 4),
            round(hits_b[k] / count[k], 4),
            round((hits_b[k] - hits_a[k]) / count[k], 4),
        ]
        for k in changed[:MAX_CLASSES]
    ]


def _class_names(run: Run, a: Predictions, b: Predictions) -> list[str]:
    size = int(max(numbers.max(initial=0) for numbers in (a.label_N, a.pred_N, b.pred_N))) + 1
    names = [str(name) for name in read_json(RunDir(run.path).classes, default=[])]
    return names + [f"class {index}" for index in range(len(names), size)]
