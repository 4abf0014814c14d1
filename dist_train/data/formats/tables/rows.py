"""A table in columns, and its rows for messages."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """One image of a table.

    Attributes:
        table, line: its place, for messages.
        path: with ``data.csv.suffix``.
        fields: the text of each target.
        further: the text of each further column.
        labels: indices of the labels that it has, where each label has a column. ``fields`` are empty then: a row of 1,000
            texts takes 8 KB.
    """

    table: Path
    line: int
    path: str
    fields: tuple[str, ...]
    further: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.table} line {self.line}"


@dataclass
class Table:
    """The images of a table in its order, in columns: a million ``Row`` objects take 3 s and 200 MB.

    Attributes:
        file: for messages.
        paths: with ``data.csv.suffix``.
        fields, further: a list of texts for each target, and for each further column.
        labels: as in ``Row``, for each image; empty unless each label has a column, and then ``fields`` is empty.
        lines: the number of each image's line.
    """

    file: Path
    paths: list[str]
    fields: list[list[str]]
    further: list[list[str]]
    labels: list[tuple[int, ...]] = field(default_factory=list)
    lines: "array[int]" = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.paths)

    def row(self, place: int) -> Row:
        """Return an image as a row."""
        fields, further = ([column[place] for column in columns] for columns in (self.fields, self.further))
        labels = self.labels[place] if self.labels else ()
        return Row(self.file, self.lines[place], self.paths[place], tuple(fields), tuple(further), labels)

    def add(self, lines: Sequence[int], paths: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
        """Add images at the end.

        Args:
            texts: a column for each target, then one for each further column.
        """
        if isinstance(lines, range):
            self.lines.frombytes(np.arange(lines.start, lines.stop, dtype=np.int64).tobytes())
        else:
            self.lines.extend(lines)
        self.paths += paths
        for column, more in zip(self.fields + self.further, texts, strict=True):
            column += more

    def where(self, wanted: Iterable[bool]) -> "Table":
        """Return the images that are wanted.

        Args:
            wanted: one for each image.
        """
        kept = bytearray(wanted)
        fields, further = ([[*compress(column, kept)] for column in columns] for columns in (self.fields, self.further))
        labels = [*compress(self.labels, kept)]
        return Table(
            self.file, [*compress(self.paths, kept)], fields, further, labels, array("q", compress(self.lines, kept))
        )
