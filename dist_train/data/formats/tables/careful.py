"""The lines of a CSV file one after the other: each is understood, or refused with its number."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dist_train.config.sections.data import CsvConfig
from dist_train.data.formats.base import Findings
from dist_train.data.formats.tables.rows import Row
from dist_train.errors import DataError

UTF16 = '{} is UTF-16, as Excel\'s "Unicode text" is: save it as UTF-8 (in Excel: "CSV UTF-8")'

SEPARATORS = ",;\t|"
"""What programs write between columns."""


class BrokenQuotesError(Exception):
    """The quotes of a table are not those of a CSV file, from ``line`` on."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Record(NamedTuple):
    """The fields of one row, which takes the lines ``first`` to ``last``: a quoted value may hold line breaks."""

    first: int
    last: int
    fields: list[str]


class Lines:
    """One reading of a table.

    Args:
        further: names of columns to read beside those of ``cfg``.
        findings: gets the lines that a run must not begin with.
        strict: refuse quotes that are not those of a CSV file. Without it they are read as version 0.1.0 did.

    Attributes:
        width: the number of columns in the header.
        places: those of the path, of each target and of each further column.
    """

    def __init__(
        self, root: Path, table: Path, cfg: CsvConfig, further: Sequence[str], findings: Findings, strict: bool = True
    ) -> None:
        self._root, self._table, self._cfg, self._findings, self._strict = root, table, cfg, findings, strict
        self._further = tuple(further)
        self.width, self.places = 0, [0]

    def read_header(self, lines: Iterable[str]) -> int:
        """Read the header, and return the number of its last line.

        Raises:
            DataError: a column is missing.
        """
        _, last, header = next(self._records(lines, 0), _Record(1, 1, []))
        if "\0" in "".join(header):
            raise DataError(UTF16.format(self._table))
        self.width = len(header)
        self.places = [self._column(header, name) for name in (self._cfg.path, *self._cfg.targets, *self._further)]
        return last

    def rows(self, lines: Iterable[str], before: int) -> Iterator[tuple[Row, int]]:
        """Yield each row with the number of its last line.

        Args:
            before: so many lines of the table lie before ``lines``.
        """
        for record in self._records(lines, before):
            yield self._row(record), record.last

    def _records(self, lines: Iterable[str], last: int) -> Iterator[_Record]:
        """Yield all rows but blank ones."""
        reader = csv.reader(lines, delimiter=self._cfg.separator, strict=self._strict)
        before = last
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise self._broken(last + 1, error) from None
            if fields is None:
                return
            first, last = last + 1, before + reader.line_num
            if len(fields) > 1 or (fields and fields[0].strip()):
                yield _Record(first, last, fields)

    def _broken(self, line: int, error: csv.Error) -> Exception:
        """Return the error for a row that begins on ``line`` and that the csv module refuses."""
        if "field larger" in str(error):
            most = csv.field_size_limit()
            return DataError(
                f"{self._table} line {line}: a value is longer than {most} characters; close the quote that opens here"
            )
        if not self._strict:
            return DataError(f"{self._table} line {line}: {error}")
        if "unexpected end" in str(error):
            return BrokenQuotesError(line, "a quote opens a value here and is never closed")
        return BrokenQuotesError(line, f"text follows a closing quote ({error})")

    def _what_is_there(self, header: list[str], name: str) -> str:
        """Return what the table has in place of the column ``name``, and the fix."""
        whole = self._cfg.separator.join(header)
        if not whole:
            return "its first line, the header, is empty"
        other = next((char for char in SEPARATORS if name in map(str.strip, whole.split(char))), None)
        if other is not None:
            return f"the character between its columns is {other!r}: set `data.csv.separator: {json.dumps(other)}` in the config"
        further = ", or the key that names this column" if name in self._further else ""
        return (
            f"its first line, the header, names {', '.join(header)}: set `data.csv.path`, `data.csv.targets` or "
            f"`data.csv.separator` ({self._cfg.separator!r}){further}"
        )

    def _column(self, header: list[str], name: str) -> int:
        """Return the place of a column; spaces around its name do not count."""
        places = [place for place, text in enumerate(header) if text == name] or [
            place for place, text in enumerate(header) if text.strip() == name
        ]
        if not places:
            raise DataError(f"{self._table} has no column {name}; {self._what_is_there(header, name)}")
        if len(places) > 1:
            raise DataError(f"{self._table} has two columns {name}; rename one of them")
        return places[0]

    def _row(self, record: _Record) -> Row:
        first, last, fields = record
        if max(self.places) >= len(fields):
            raise DataError(
                f"{self._table} line {first} has fewer columns than the header ({len(fields)} of {self.width})"
            )
        path, *values = [fields[place].strip() for place in self.places]
        if len(fields) != self.width or last > first or "\0" in "".join(values):
            for fault in self._faults(record, self.width, (path, *values)):
                self._findings.refuse(f"{self._table} line {first}", fault)
        targets, further = values[: len(self._cfg.targets)], values[len(self._cfg.targets) :]
        return Row(self._table, first, path and path + self._cfg.suffix, tuple(targets), tuple(further))

    def _faults(self, record: _Record, width: int, wanted: Iterable[str]) -> Iterator[str]:
        if len(record.fields) > width:
            yield (
                f"more fields than the header ({width}); put a value that holds {self._cfg.separator!r} in double quotes, "
                "or use another `data.csv.separator`"
            )
        elif len(record.fields) < width:
            yield f"fewer fields than the header ({width}); add the missing separators, or remove the line"
        if any("\n" in text or "\r" in text for text in wanted):
            yield "a path or target holds a line break; a quote that is not closed joins lines: remove it"
        elif record.last > record.first and self._swallowed(record, width):
            yield "a quoted value holds whole lines of the table; close the quote before the line ends"
        if any("\0" in text for text in wanted):
            yield "a path or target holds a zero byte; save the table as UTF-8"

    def _swallowed(self, record: _Record, width: int) -> bool:
        """Return whether a value of several lines holds a line that could be a row of this table."""
        inner = [line for text in record.fields if "\n" in text or "\r" in text for line in text.splitlines()[1:]]
        return any(
            len(fields) >= width - 1 and any(map(self._is_image, fields))
            for fields in csv.reader(inner, delimiter=self._cfg.separator)
        )

    def _is_image(self, text: str) -> bool:
        return bool(text.strip()) and os.path.isfile(self._root / (text.strip() + self._cfg.suffix))
