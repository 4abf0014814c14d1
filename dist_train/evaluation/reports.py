"""An evaluation in detail: the file of predictions, the table of classes, the confusion matrix and its picture."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dist_train.data.index import DataIndex
from dist_train.evaluation.metric_functions.counts import count
from dist_train.evaluation.metric_functions.numbers import absolute_errors, r2_scores, root_squared_errors
from dist_train.evaluation.metric_functions.ranking import per_class
from dist_train.evaluation.metrics import Evaluation
from dist_train.run.predictions import Likeliest, Predictions, pack_arrays, pack_predictions
from dist_train.system.foreign_text import printable

PICTURED = 500
"""With more classes than this, no confusion image is logged."""

SIDE = 512
"""Pixels of a confusion image, about."""

Table = list[dict[str, Any]]
"""One row per class or output: its name under ``class``, and its metrics by name."""


def pack_outcome(outcome: Evaluation, index: DataIndex, step: int) -> bytes:
    """Return the content of ``predictions.npz``: a prediction for each readable validation image, in data-set order.

    Classification has ``pred`` and ``label``, class numbers int32 [N], and of the T likeliest classes ``classes``, int32
    [N, T], and ``probabilities``, float16 [N, T], where the evaluation kept them. Multilabel and regression have ``outputs`` and
    ``targets``, float32 [N, K].
    """
    paths = [index.val.name(int(place)) for place in np.flatnonzero(outcome.counted)]
    if outcome.classes is not None:
        pred, label = (tensor.numpy().astype(np.int32) for tensor in (outcome.classes, outcome.labels))
        likeliest = None if outcome.likeliest is None else Likeliest.of(outcome.likeliest.numpy())
        return pack_predictions(Predictions(step, pred, label, paths, likeliest))
    assert outcome.outputs is not None
    return pack_arrays(step, paths, outputs=outcome.outputs.numpy(), targets=outcome.labels.numpy())


def class_table(outcome: Evaluation, names: list[str]) -> Table:
    """Return the metrics of each class or output. Shares are in percent; undefined values are NaN.

    Classes have their average precision and AUROC if the probabilities were kept.
    """
    found = outcome.as_scored()
    if outcome.task == "regression":
        columns = {"mae": absolute_errors(found), "rmse": root_squared_errors(found), "r2": r2_scores(found)}
        return [{"class": name, **{k: float(v[i]) for k, v in columns.items()}} for i, name in enumerate(names)]
    counts = count(found, len(names))
    columns = {"recall": counts.recalls(), "precision": counts.precisions(), "f1": counts.f1()}
    if outcome.outputs is not None:
        columns["ap"], columns["auroc"] = per_class(found)
    return [
        {
            "class": name,
            "images": int(counts.labelled[i]),
            **{column: 100 * float(values[i]) for column, values in columns.items()},
        }
        for i, name in enumerate(names)
    ]


def _classes(outcome: Evaluation) -> torch.Tensor:
    assert outcome.classes is not None
    return outcome.classes


def confusion(outcome: Evaluation, classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix, int64 [K, K]: the number of images by label (row) and predicted class (column)."""
    pairs = outcome.labels.numpy() * classes + _classes(outcome).numpy()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def confusion_image(outcome: Evaluation, count: int) -> NDArray[np.uint8]:
    """Return the confusion matrix as an image, uint8 [H, W, 3], H and W near ``SIDE``: row = label, column = prediction.

    A white cell means no image of the class, a dark cell all of them. This runs at every evaluation, so it works without
    matplotlib.
    """
    matrix = confusion(outcome, count)
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    dark, white = np.array((8, 48, 107)), np.array((255, 255, 255))
    cells: NDArray[np.uint8] = (white + shares[..., None] * (dark - white)).round().astype(np.uint8)
    return cells.repeat(max(1, SIDE // count), 0).repeat(max(1, SIDE // count), 1)


def draw_confusion(path: Path, matrix: NDArray[np.int64], names: list[str], title: str) -> None:
    """Draw the confusion matrix, each row in percent of its class. Names and numbers are drawn only if there is room."""
    from matplotlib.figure import Figure  # slow to import, and used only here

    count = len(names)
    names = [name.encode(errors="backslashreplace").decode() for name in names]  # bytes that are not UTF-8
    shares = 100 * matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    side = min(16.0, 4 + 0.3 * count)
    figure = Figure(figsize=(side, side * 0.9), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="predicted", ylabel="label")
    axes.set_title(title, parse_math=False)
    if count <= 40:
        # Folder names may hold bytes that are not UTF-8, and dollar signs that do not start a formula.
        words = [name.encode(errors="surrogateescape").decode(errors="replace") for name in names]
        axes.set_xticks(range(count), words, rotation=90, parse_math=False)
        axes.set_yticks(range(count), words, parse_math=False)
    if count <= 20:
        for (row, column), share in np.ndenumerate(shares):
            if matrix[row, column]:
                colour = "white" if share > 50 else "black"
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(picture, label="percent of the class's images", shrink=0.8)
    figure.savefig(path, dpi=120)


def worst_first(table: Table) -> Table:
    """Return the rows by RMSE, average precision or F1, the worst first; those where it is undefined come last."""
    key = "rmse" if "rmse" in table[0] else "ap" if "ap" in table[0] else "f1"
    defined = [row for row in table if not np.isnan(row[key])]
    worst = sorted(defined, key=lambda row: row[key], reverse=key == "rmse")
    return worst + [row for row in table if np.isnan(row[key])]


def describe_table(table: Table, limit: int = 20) -> str:
    """Return the table as text with the ``limit`` worst classes, the worst first, and the number of other classes."""
    worst = worst_first(table)
    width = max(len(printable(row["class"])) for row in worst[:limit])
    names = [name for name in table[0] if name != "class"]
    lines = ["  ".join(["class".ljust(width), *(name.rjust(9) for name in names)])]
    for row in worst[:limit]:
        values = (f"{row[name]:9d}" if isinstance(row[name], int) else f"{row[name]:9.4g}" for name in names)
        lines.append("  ".join([printable(row["class"]).ljust(width), *values]))
    if len(table) > limit:
        lines.append(f"... and {len(table) - limit} better ones")
    return "\n".join(lines)
