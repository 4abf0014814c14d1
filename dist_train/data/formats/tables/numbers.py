"""Targets that are numbers, and labels that have a column of 0 and 1 each."""

import math
import re
from collections.abc import Sequence

import numpy as np

from dist_train.data.formats.base import Findings
from dist_train.data.formats.class_names import few, shortened
from dist_train.data.formats.tables.rows import Row
from dist_train.errors import DataError

LARGEST = float(np.finfo(np.float32).max)

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""What everybody reads as a number. Python also takes ``1_000`` for 1000."""

SWITCHES = frozenset("01")


def numbers(row: Row, findings: Findings) -> tuple[float, ...]:
    """Return the targets of a row, and add odd spellings to ``findings``.

    Raises:
        DataError: a target is not a finite number of 32 bits.
    """
    try:
        values = tuple(float(text) for text in row.fields)
    except ValueError:
        values = (math.nan,)
    if not all(abs(value) <= LARGEST for value in values):  # NaN fails this comparison too
        comma = "; write a decimal point, not a comma" if any("," in text for text in row.fields) else ""
        shown = ", ".join(repr(shortened(text)) for text in row.fields)
        raise DataError(f"{row.where} has targets {shown}, which are not all finite numbers of 32 bits{comma}")
    if not all(map(NUMBER.fullmatch, row.fields)):
        findings.refuse(row.where, f"targets {few(row.fields)} are not plain numbers; write digits only")
    return values


def plain_numbers(fields: Sequence[str]) -> tuple[float, ...] | None:
    """Return what ``numbers`` returns; None where it has something to say."""
    if not all(map(NUMBER.fullmatch, fields)):
        return None
    values = tuple(map(float, fields))
    return values if all(abs(value) <= LARGEST for value in values) else None


def switched(row: Row, findings: Findings) -> Row:
    """Return a row with its labels in place of its fields, which are 0 or 1.

    Raises:
        DataError: a field is something else.
    """
    fields: Sequence[object] = row.fields
    if not SWITCHES.issuperset(row.fields):
        values = numbers(row, findings)
        if not set(values) <= {0.0, 1.0}:
            raise DataError(f"{row.where} has labels {few(row.fields)}; with a column per class they must be 0 or 1")
        fields = ["1" if value else "0" for value in values]
    return row._replace(fields=(), labels=tuple(place for place, text in enumerate(fields) if text == "1"))


def labels_of(columns: Sequence[Sequence[str]]) -> list[tuple[int, ...]] | None:
    """Return the labels of rows whose fields stand in columns; None where a field is neither ``0`` nor ``1``."""
    if not all(map(SWITCHES.issuperset, columns)):
        return None
    found: list[list[int]] = [[] for _ in columns[0]]
    for label, column in enumerate(columns):
        place = -1
        for _ in range(column.count("1")):
            place = column.index("1", place + 1)
            found[place].append(label)
    return [*map(tuple, found)]
