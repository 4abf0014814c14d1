"""The figures of the page: curves of training, curves of classes, calibration, predictions against targets."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dist_train.evaluation.metric_functions.ranking import average_precisions
from dist_train.inference.reporting.drawing import COLOURS, drawn
from dist_train.inference.reporting.gather import Gathered, Judged, number
from dist_train.run.metrics_file import Row
from dist_train.system.foreign_text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 15
"""Of the calibration, as in Guo et al. (2017)."""
MOST_CURVES, MOST_FIGURES, MOST_POINTS = 8, 12, 1000
MOST_DECISIONS = 1 << 24
"""Of images for classes, in the curve of all together; of more, those of some images at even distances."""
LONGEST_NAME = 28
FIRST = ("lr", "grad_norm", "images_per_s", "data_wait")
NO_CURVE = ("step", "epoch", "split", "seconds", "loss", "slowest_rank")


@dataclass(frozen=True)
class Figure:
    """``svg`` is an element of SVG in which every text of others is escaped."""

    title: str
    svg: str
    remark: str = ""


def training_curves(run: Gathered) -> tuple[list[Figure], list[str]]:
    """Return the curves over the steps, and the names of the columns that were left out."""
    train, val = run.rows.get("train", []), run.rows.get("val", [])
    metric = run.config.eval.metric
    others = [key for key in _columns(val) if key != metric][: MOST_CURVES - 1]
    figures = [_curves("loss", [("training", train, "loss"), ("validation", val, "loss")])]
    figures += [_curves("validation", [(key, val, key) for key in ([] if metric == "loss" else [metric]) + others])]
    names = sorted(_columns(train), key=lambda name: (name not in FIRST, FIRST.index(name) if name in FIRST else 0))
    room = MOST_FIGURES - len(figures)
    figures += [_curves(name, [(name, train, name)]) for name in names[:room]]
    return [figure for figure in figures if figure.svg], names[room:]


def _columns(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(key for row in (*rows[:1], *rows[-1:]) for key in row if key not in NO_CURVE)
    return [name for name in names if any(math.isfinite(number(row, name)) for row in rows)]


def _curves(title: str, lines: Sequence[tuple[str, list[Row], str]]) -> Figure:
    """Return one figure; without ``svg`` if no line has a finite value."""
    found = [(name, *_line(rows, key)) for name, rows, key in lines]
    found = [line for line in found if np.isfinite(line[2]).any()]
    if not found:
        return Figure(title, "")
    with drawn() as drawing:
        for place, (name, steps, values) in enumerate(found):
            marker = "o" if np.isfinite(values).sum() < 20 else None
            drawing.axes.plot(steps, values, color=COLOURS[place], marker=marker, ms=3, lw=1.5, label=_name(name))
        drawing.axes.set_xlabel("step")
        if len(lines) > 1:
            _legend(drawing.axes)
    return Figure(title, drawing.svg)


def _line(rows: list[Row], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = rows[:: -max(1, -(-len(rows) // MOST_POINTS))][::-1]
    values = np.array([number(row, key) for row in kept])
    return np.array([float(row["step"]) for row in kept]), np.where(np.abs(values) < 1e30, values, np.nan)


def class_curves(run: Gathered, judged: Judged) -> list[Figure]:
    """Return precision-recall and ROC curves of the classes with the lowest average precision, and of all decisions as one."""
    from sklearn import metrics

    if judged.outputs is None or run.config.data.task == "regression":
        return []
    targets_NK, outputs_NK = _one_hot(judged), judged.outputs
    every = slice(None, None, -(-outputs_NK.size // MOST_DECISIONS))
    lines = [("all together", targets_NK[every].ravel(), outputs_NK[every].ravel())]
    lines += [(run.classes[k], targets_NK[:, k], outputs_NK[:, k]) for k in _worst_classes(judged)]
    defined = [(name, targets, values) for name, targets, values in lines if 0 < targets.sum() < len(targets)]
    with drawn() as first, drawn() as second:
        for place, (name, targets, values) in enumerate(defined):
            precision, recall, _ = metrics.precision_recall_curve(targets, values)
            _class_line(first.axes, place, name, recall, precision)
            false, true, _ = metrics.roc_curve(targets, values)
            _class_line(second.axes, place, name, false, true)
        first.axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        second.axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.02))
        _legend(first.axes)
        _legend(second.axes)
    remark = (
        f"the {len(defined) - 1} of {len(run.classes)} classes with the lowest average precision, and all decisions"
    )
    return [Figure("precision and recall", first.svg, remark), Figure("ROC", second.svg, remark)]


def _one_hot(judged: Judged) -> NDArray[np.int8]:
    assert judged.outputs is not None
    labels = judged.labels
    if labels.ndim == 2:
        return np.asarray(labels > 0.5, np.int8)
    return np.asarray(labels[:, None] == np.arange(judged.outputs.shape[1]), np.int8)


def _worst_classes(judged: Judged) -> list[int]:
    """Return the classes with an image that have the lowest average precision, the lowest first."""
    precision_K = average_precisions(judged.outcome.as_scored())
    return [int(k) for k in np.argsort(precision_K)[: MOST_CURVES - 1] if not np.isnan(precision_K[k])]


def _class_line(axes: "Axes", place: int, name: str, x: NDArray[Any], y: NDArray[Any]) -> None:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    axes.plot(x[kept], y[kept], color=COLOURS[place], lw=2.2 if place == 0 else 1.2, label=_name(name))


def calibration(run: Gathered, judged: Judged) -> Figure | None:
    """Return the reliability diagram and the expected calibration error; None without probabilities."""
    found = _confidences(run, judged)
    if found is None:
        return None
    confidences_N, right_N = found
    bins = np.minimum((confidences_N * BINS).astype(np.int64), BINS - 1)
    images, trust, hits = (np.bincount(bins, weights, BINS) for weights in (np.ones(len(bins)), confidences_N, right_N))
    error = 100 * float(np.abs(hits - trust).sum() / len(bins))
    used = images > 0
    with drawn() as drawing:
        axes = drawing.axes
        axes.plot([0, 1], [0, 1], color=COLOURS[7], lw=1, ls="--")
        axes.bar((np.arange(BINS) + 0.5) / BINS, images / images.sum(), 0.9 / BINS, color=COLOURS[7], alpha=0.35)
        axes.plot(trust[used] / images[used], hits[used] / images[used], color=COLOURS[0], marker="o", ms=4)
        axes.set(xlabel="probability", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    about = "of the predicted class" if judged.outcome.task == "classification" else "of each label of each image"
    remark = (
        f"expected calibration error {error:.3g} % in {BINS} bins, of the probability {about}; grey: how many there are"
    )
    return Figure("calibration", drawing.svg, remark)


def _confidences(run: Gathered, judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return probabilities and whether they were right (1 or 0), float64 [N]; None without probabilities."""
    if judged.likeliest is not None and judged.outcome.classes is not None:
        right = judged.outcome.classes.numpy() == judged.labels
        return judged.likeliest.probabilities_NT[:, 0].astype(np.float64), right.astype(np.float64)
    if run.config.data.task == "multilabel" and judged.outputs is not None:
        return judged.outputs.ravel().astype(np.float64), _one_hot(judged).ravel().astype(np.float64)
    return None


def scatters(run: Gathered, judged: Judged) -> list[Figure]:
    """Return predictions against targets for each output of a regression, at most ``MOST_FIGURES``; none for other tasks."""
    if run.config.data.task != "regression" or judged.outputs is None:
        return []
    count = len(judged.outputs)
    shown = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    figures = []
    for place, name in enumerate(run.classes[:MOST_FIGURES]):
        targets, outputs = judged.labels[shown, place], judged.outputs[shown, place]
        ends = [float(np.min([targets, outputs])), float(np.max([targets, outputs]))]
        with drawn() as drawing:
            drawing.axes.plot(ends, ends, color=COLOURS[7], lw=1, ls="--")
            drawing.axes.scatter(targets, outputs, s=10, alpha=0.5, color=COLOURS[0], linewidths=0)
            drawing.axes.set(xlabel="target", ylabel="prediction")
        figures.append(Figure(name, drawing.svg, f"{len(shown):,} of {count:,} images" if len(shown) < count else ""))
    return figures


def _name(text: str) -> str:
    """Return a name for a legend, the middle of a long one cut; matplotlib leaves out one that begins with an underscore."""
    shown = printable(text)
    shown = shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME // 2]}…{shown[-LONGEST_NAME // 2 + 1 :]}"
    return f"\u200b{shown}" if shown.startswith("_") else shown


def _legend(axes: "Axes") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no line has a name
        axes.legend(fontsize=7.5)
