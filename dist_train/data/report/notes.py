"""What a user should know about the classes and targets of a data set, whatever its format. Nothing here stops a run."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.config.choice_table import Task
from dist_train.data.formats.class_names import NAMED, PERHAPS_MISSING, alike_names, few
from dist_train.data.label_sets import LabelSets

MANY_CLASSES = 0.5
"""Classes per training image above which a column of numbers or names is the likely cause."""

LABEL_SEPARATORS = ("|", ",", ";", "/", " ")

Labels = NDArray[Any] | LabelSets


def notes_on(task: Task, label_separator: str | None, classes: Sequence[str], train: Labels, val: Labels) -> list[str]:
    """Return one sentence for each thing that looks wrong and may be right.

    Args:
        label_separator: in the column of a table that holds all labels of an image; None where there is none.
        train, val: all targets: int64 [N]; sparse for multilabel; float64 [N, K] for regression, as they are read.
    """
    if task == "regression":
        return list(_numbers(classes, train[:]))
    return [*_names(classes), *_labels(label_separator, classes), *_counts(classes, train, val)]


def _names(classes: Sequence[str]) -> Iterator[str]:
    alike = [" and ".join(repr(name) for name in names) for names in alike_names(classes)]
    if alike:
        yield f"classes with almost the same name: {few(alike)}; if they are one class, give them one name"
    missing = [name for name in classes if name.lower() in PERHAPS_MISSING]
    if missing:
        yield f"a class is called {few(missing)}; if that stands for a missing label, remove these images"


def _labels(separator: str | None, classes: Sequence[str]) -> Iterator[str]:
    if separator is None:
        return
    for sign in LABEL_SEPARATORS:
        joined = [name for name in classes if sign in name]
        if joined and 2 * len(joined) > len(classes):
            yield (
                f"most labels hold {sign!r} ({few(joined)}); if it separates labels, set `data.csv.label_separator` "
                f"(now {separator!r})"
            )
            return


def _counts(classes: Sequence[str], train: Labels, val: Labels) -> Iterator[str]:
    if len(classes) > MANY_CLASSES * len(train) and len(classes) > NAMED:
        yield (
            f"{len(classes)} classes for {len(train)} training images: is each image a class of its own? A column of numbers "
            "needs `data.task=regression`"
        )
    for split, labels in (("training", train), ("validation", val)):
        absent = np.flatnonzero(class_counts(len(classes), labels) == 0)
        if len(absent):
            yield f"classes without {split} images: {few([classes[label] for label in absent.tolist()])}"


def _numbers(names: Sequence[str], targets: NDArray[np.float64]) -> Iterator[str]:
    for name, column in zip(names, targets.T, strict=True):
        distinct = len(np.unique(column))
        if distinct == 1 and len(column) > 1:
            yield f"all training targets of {name} are {column[0]:g}; is it the right column?"
        elif len(np.unique(column.astype(np.float32))) < distinct:
            yield f"targets of {name} differ only beyond the 7 digits of 32-bit numbers; subtract their mean, or scale them"


def class_counts(outputs: int, labels: Labels) -> NDArray[np.int64]:
    """Return how many images have each class: int64 [outputs]."""
    if isinstance(labels, LabelSets):
        return labels.counts()
    return np.bincount(labels, minlength=outputs).astype(np.int64)
