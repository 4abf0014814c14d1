"""A data set in a few lines, for ``--check`` and the log of a start."""

from collections.abc import Sequence

import numpy as np

from dist_train.data.index import DataIndex
from dist_train.data.report.notes import class_counts

MOST_CLASSES = 12
"""Of more classes, the smallest and the largest are shown."""
SHOWN = 3


def describe(index: DataIndex) -> list[str]:
    """Return the sizes of the splits, the names of the outputs with their counts or ranges, and what looks wrong."""
    kind = {"classification": "classes", "multilabel": "labels", "regression": "targets"}[index.task]
    first = f"data: {len(index.train):,} training and {len(index.val):,} validation images of {index.outputs} {kind}"
    outputs = _ranges(index) if index.task == "regression" else _counts(index, kind)
    return [first, outputs, *(f"note: {note}" for note in index.notes)]


def _counts(index: DataIndex, kind: str) -> str:
    train, val = (class_counts(index.outputs, split.labels) for split in (index.train, index.val))
    shown = [f"{name} {images} + {held_out}" for name, images, held_out in zip(index.classes, train, val, strict=True)]
    title = f"{kind} (training + validation images)"
    if len(shown) <= MOST_CLASSES:
        return f"{title}: {', '.join(shown)}"
    order = np.argsort(train, kind="stable").tolist()
    return f"{title}: smallest {_some(shown, order[:SHOWN])}; largest {_some(shown, order[-SHOWN:])}"


def _some(shown: Sequence[str], places: Sequence[int]) -> str:
    return ", ".join(shown[place] for place in places)


def _ranges(index: DataIndex) -> str:
    targets_NK = index.train.labels[:]
    least, most = targets_NK.min(axis=0), targets_NK.max(axis=0)
    ranges = [f"{name} {low:g} to {high:g}" for name, low, high in zip(index.classes, least, most, strict=True)]
    return f"targets (least to greatest of training): {', '.join(ranges[:MOST_CLASSES])}"
