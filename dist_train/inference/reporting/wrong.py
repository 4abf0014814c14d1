"""Which validation images the page shows, and what it says of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dist_train.inference.reporting.gather import Gathered, Judged
from dist_train.system.terminal import digits

SAID = 3
"""Classes or outputs that a caption names."""


@dataclass(frozen=True)
class Chosen:
    """One image: its place among the predictions, and lines about it. The first line is what the model says, of ``output``."""

    place: int
    output: int
    lines: list[str]


@dataclass(frozen=True)
class Selection:
    """Images that belong together, under a title."""

    title: str
    images: list[Chosen]


def selections(run: Gathered, judged: Judged, most: int) -> list[Selection]:
    """Return at most two lists of at most ``most`` images each, without empty ones. No image is in both."""
    if run.config.data.task != "classification":
        return [each for each in (_largest_errors(run, judged, most),) if each.images]
    if judged.likeliest is None:
        return []
    mistakes = _mistakes(run, judged, most)
    rest = _unlikely(run, judged, most, {image.place for image in mistakes.images})
    return [each for each in (mistakes, rest) if each.images]


def _mistakes(run: Gathered, judged: Judged, most: int) -> Selection:
    """Return the wrong predictions, by the probability of the predicted class."""
    assert judged.likeliest is not None
    assert judged.outcome.classes is not None
    wrong = np.flatnonzero(judged.outcome.classes.numpy() != judged.labels)
    order = wrong[np.argsort(-judged.likeliest.probabilities_NT[wrong, 0], kind="stable")][:most]
    return Selection("most confident mistakes", [_of_class(run, judged, int(place)) for place in order])


def _unlikely(run: Gathered, judged: Judged, most: int, shown: set[int]) -> Selection:
    """Return the images whose labels have the lowest probabilities, without those in ``shown``."""
    order = [int(place) for place in np.argsort(_of_labels(judged), kind="stable") if int(place) not in shown]
    return Selection("lowest probability of the label", [_of_class(run, judged, place) for place in order[:most]])


def _of_labels(judged: Judged) -> np.ndarray:
    """Return the probability of each label, float32 [N]; if it was not kept, the lowest that was, less 1: those come first."""
    assert judged.likeliest is not None
    probabilities_NT = judged.likeliest.probabilities_NT.astype(np.float32)
    own_NT = judged.likeliest.classes_NT == judged.labels[:, None]
    found: np.ndarray = np.where(
        own_NT.any(1), np.where(own_NT, probabilities_NT, 0).sum(1), probabilities_NT[:, -1] - 1
    )
    return found


def _of_class(run: Gathered, judged: Judged, place: int) -> Chosen:
    """Return the likeliest classes of an image, and its label with its probability."""
    assert judged.likeliest is not None
    classes_T, probabilities_T = judged.likeliest.classes_NT[place], judged.likeliest.probabilities_NT[place]
    label = int(judged.labels[place])
    said = [f"{run.classes[k]} {p:.3f}" for k, p in zip(classes_T[:SAID], probabilities_T[:SAID], strict=True)]
    own = np.flatnonzero(classes_T == label)
    chance = f"{probabilities_T[own[0]]:.3f}" if len(own) else f"below {probabilities_T[-1]:.3f}"
    lines = [said[0], f"label: {run.classes[label]} {chance}", *(["then " + ", ".join(said[1:])] if said[1:] else [])]
    return Chosen(place, int(classes_T[0]), lines)


def _largest_errors(run: Gathered, judged: Judged, most: int) -> Selection:
    """Return the images of a multilabel task or a regression with the largest errors of one output.

    Errors of a regression count by the standard deviation of their targets.
    """
    assert judged.outputs is not None
    errors_NK = np.abs(judged.outputs - judged.labels)
    if run.config.data.task == "regression":
        spread_K = judged.labels.std(0)
        errors_NK = errors_NK / np.where(spread_K > 0, spread_K, 1)
    errors_NK = np.nan_to_num(errors_NK, nan=np.inf)
    order = np.argsort(-errors_NK.max(1), kind="stable")[:most]
    title = "largest errors of one label" if run.config.data.task == "multilabel" else "largest errors"
    worst = [
        Chosen(int(place), int(errors_NK[place].argmax()), list(_said(run, judged, int(place), errors_NK[place])))
        for place in order
    ]
    return Selection(title, worst)


def _said(run: Gathered, judged: Judged, place: int, errors_K: np.ndarray) -> Iterator[str]:
    """Yield a line for each output of an image with a large error, the largest first."""
    assert judged.outputs is not None
    for k in np.argsort(-errors_K, kind="stable")[:SAID]:
        said, target = float(judged.outputs[place, k]), float(judged.labels[place, k])
        if run.config.data.task == "multilabel":
            yield f"{run.classes[k]} {said:.3f} (label: {'yes' if target > 0.5 else 'no'})"
        else:
            yield f"{run.classes[k]}: {digits(said)}, target {digits(target)}"
