"""Findings of the doctor: as rows of a table that ``data.exclude`` takes, and as lines."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TextIO

import numpy as np

from dist_train.data.doctor.near import crowded, near_pairs
from dist_train.data.doctor.signatures import Signature, signatures
from dist_train.data.index import DataIndex
from dist_train.data.report.notes import class_counts
from dist_train.data.split import Split
from dist_train.system.foreign_text import csv_cell, printable

SAMPLE = 100
"""Images of each split in a brief examination."""
FEW = 10
"""Training images; a class with fewer is a finding."""


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    Attributes:
        image: its name; empty where the finding is about a class.
        exclude: ``yes`` or ``no``: whether ``data.exclude`` leaves the image out.
        other: the image that stays, of duplicates.
    """

    image: str
    exclude: str
    finding: str
    split: str
    other: str = ""
    detail: str = ""


def examine(index: DataIndex) -> tuple[list[Finding], list[str]]:
    """Read every image. Return the findings, and notes about what could not be searched.

    Of duplicates one stays: a validation image before a training image, else the first by name.
    """
    rows, notes = _of_images(index)
    return [*rows, *_small_classes(index)], notes


def _of_images(index: DataIndex) -> tuple[list[Finding], list[str]]:
    found = list(signatures(index))
    sound = [each for each in found if not each.broken and not each.blank]
    twins = list(_exact(sound))
    copies = {id(copy) for copy, _ in twins}
    once = [each for each in sound if id(each) not in copies]
    small_N = (
        np.stack([each.small for each in once if each.small is not None]) if once else np.zeros((0, 32, 32), np.uint8)
    )
    rows = [
        *(_of_one(index, each, "broken", printable(each.broken)) for each in found if each.broken),
        *(_of_one(index, each, "blank", "every pixel has one value") for each in found if each.blank),
        *(_twin(index, "exact duplicate", *pair) for pair in twins),
        *(_twin(index, "near duplicate", once[copy], once[first]) for copy, first in _near(small_N)),
    ]
    full = crowded(small_N)
    note = f"{full:,} images look so alike that not all pairs of them were compared: near duplicates may be missing"
    return rows, [note] if full else []


def brief(index: DataIndex) -> tuple[list[Finding], list[str]]:
    """Look for broken and blank images and duplicates in a sample of both splits. Return the findings, and lines about them."""
    part = replace(index, train=_sample(index.train), val=_sample(index.val))
    rows, _ = _of_images(part)
    if not rows:
        return [], []
    looked, total = (len(each.train) + len(each.val) for each in (part, index))
    of_all = f"{total:,} images" if looked == total else f"{looked:,} of {total:,} images"
    return rows, [f"note: the doctor, of {of_all}: {line}" for line in describe(rows)]


def _sample(split: Split) -> Split:
    places = np.arange(min(SAMPLE, len(split))) * len(split) // max(1, min(SAMPLE, len(split)))
    return split.part(places)


def _exact(sound: Sequence[Signature]) -> Iterator[tuple[Signature, Signature]]:
    """Yield each copy of an earlier image, with that."""
    first: dict[bytes, Signature] = {}
    for each in sound:
        kept = first.setdefault(each.digest, each)
        if kept is not each:
            yield each, kept


def _near(small_N: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> Iterator[tuple[int, int]]:
    """Yield each place that shows the same as an earlier one which stays, with that. There are no chains of likenesses."""
    gone: set[int] = set()
    pairs = near_pairs(small_N)
    for first, copy in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
        if first not in gone and copy not in gone:
            gone.add(copy)
            yield copy, first


def _of_one(index: DataIndex, each: Signature, finding: str, detail: str) -> Finding:
    return Finding(index.split(each.split).name(each.number), "yes", finding, each.split, detail=detail)


def _twin(index: DataIndex, finding: str, copy: Signature, kept: Signature) -> Finding:
    names = [index.split(each.split).name(each.number) for each in (copy, kept)]
    targets = [index.split(each.split).labels[[each.number]][0] for each in (copy, kept)]
    facts = ["across the splits"] if copy.split != kept.split else []
    if not np.array_equal(*targets):
        shown = [index.classes[int(target)] for target in targets] if index.task == "classification" else ["differ"]
        facts.append(f"targets: {', '.join(printable(name) for name in shown)}")
    if names[0] == names[1]:  # to leave the name out would leave both out
        return Finding(names[0], "no", finding, copy.split, names[1], "; ".join([*facts, "one file, listed twice"]))
    return Finding(names[0], "yes", finding, copy.split, names[1], "; ".join(facts))


def _small_classes(index: DataIndex) -> Iterator[Finding]:
    if index.task == "regression":
        return
    for name, count in zip(index.classes, class_counts(index.outputs, index.train.labels), strict=True):
        if count < FEW:
            yield Finding("", "no", "few images", "train", detail=f"{printable(name)}: {count}")


def write(file: TextIO, rows: Sequence[Finding]) -> None:
    """Write the table: UTF-8, one row for each finding."""
    table = csv.DictWriter(file, [field.name for field in fields(Finding)])
    table.writeheader()
    # Names of images stay as they are, so that data.exclude finds them.
    table.writerows(asdict(row) | {"detail": csv_cell(row.detail)} for row in rows)


def describe(rows: Sequence[Finding]) -> Iterator[str]:
    """Yield one line for each kind of finding, with its first example."""
    counts = Counter(row.finding for row in rows)
    for finding, count in counts.items():
        first = next(row for row in rows if row.finding == finding)
        detail = first.detail.partition(f"{printable(first.image)}: ")[2] or first.detail  # the name is there once
        also = f" = {printable(first.other)}" if first.other else f" ({detail})" if first.image else detail
        across = sum(row.finding == finding and row.detail.startswith("across") for row in rows)
        splits = f", {across:,} of them across the splits" if across else ""
        yield f"{finding}: {count:,}{splits}, such as {printable(first.image)}{also}"
    if not rows:
        yield "no findings"
