"""The lines of a CSV file as rows of text: every line is understood, or refused with its number."""

import csv
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dist_train.config.sections.data import CsvConfig
from dist_train.data.formats.base import Findings
from dist_train.data.stored.survey import note
from dist_train.errors import ConfigError, DataError

_UTF16 = '{} is UTF-16, as Excel\'s "Unicode text" is: save it as UTF-8 (in Excel: "CSV UTF-8")'

BAD_SEPARATORS = '"\r\n\0'


MOST_SHARED = 50_000
"""Different targets up to which equal ones are kept once: there are not so many classes."""


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


Shorten = Callable[[Row, Findings], Row]
"""A function from a row as it stands in the table to what is kept of it."""


class _Record(NamedTuple):
    """The fields of one row, which stands on the lines ``first`` to ``last``: a quoted value may hold line breaks."""

    first: int
    last: int
    fields: list[str]


def read_table(
    root: Path,
    name: str,
    cfg: CsvConfig,
    findings: Findings,
    further: Sequence[str] = (),
    shorten: Shorten = lambda row, _: row,
) -> list[Row]:
    """Return the rows of the table ``name`` below ``root``, and add lines that a run must not begin with to ``findings``.

    Args:
        further: names of columns to read beside those of ``cfg``.
        shorten: is applied to each row when it is read.

    Raises:
        ConfigError, DataError: the file cannot be read, lacks a column, or has a line without a path or target.
    """
    if cfg.separator in BAD_SEPARATORS:
        raise ConfigError(f"`data.csv.separator` ({cfg.separator!r}) cannot separate columns; use ',', ';' or '\\t'")
    table = root / name
    try:
        note(table)
        if not stat.S_ISREG(os.stat(table).st_mode):
            raise DataError(f"cannot read the table {table}: it is not a file")
        return _Table(root, table, cfg, findings, further, shorten).rows()
    except _BrokenQuotesError as error:
        findings.refuse(f"{table} line {error.line}", f"{error}; write a quote inside a quoted value twice")
        return _Table(root, table, cfg, Findings(), further, shorten, strict=False).rows()
    except UnicodeDecodeError:
        raise DataError(_undecodable(table)) from None
    except (OSError, ValueError) as error:  # ValueError: the name holds a zero byte
        raise DataError(
            f"cannot read the table {table}: {error}; `data.csv` names the tables, relative to `data.root`"
        ) from None


class _BrokenQuotesError(Exception):
    """The quotes of a table are not those of a CSV file, from ``line`` on."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Table:
    """One reading of a table.

    Args:
        strict: refuse quotes that are not those of a CSV file. Without it they are read as version 0.1.0 did.
    """

    def __init__(
        self,
        root: Path,
        table: Path,
        cfg: CsvConfig,
        findings: Findings,
        further: Sequence[str],
        shorten: Shorten,
        strict: bool = True,
    ) -> None:
        self._root, self._table, self._cfg, self._findings, self._strict = root, table, cfg, findings, strict
        self._further, self._shorten, self._last = tuple(further), shorten, 0
        self._targets: dict[tuple[str, ...], tuple[str, ...]] = {}

    def rows(self) -> list[Row]:
        with open(self._table, newline="", encoding="utf-8-sig") as file:
            records = self._records(file)
            header = next(records, _Record(1, 1, [])).fields
            if "\0" in "".join(header):
                raise DataError(_UTF16.format(self._table))
            columns = [self._column(header, name) for name in (self._cfg.path, *self._cfg.targets, *self._further)]
            self._last = max(columns)
            rows = [self._row(record, header, columns) for record in records]
        if not rows:
            raise DataError(f"{self._table} has a header and no lines")
        return rows

    def _records(self, file: Iterable[str]) -> Iterator[_Record]:
        """Yield all rows but blank ones."""
        reader = csv.reader(file, delimiter=self._cfg.separator, strict=self._strict)
        last = 0
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise self._broken(last + 1, error) from None
            if fields is None:
                return
            first, last = last + 1, reader.line_num
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
            return _BrokenQuotesError(line, "a quote opens a value here and is never closed")
        return _BrokenQuotesError(line, f"text follows a closing quote ({error})")

    def _column(self, header: list[str], name: str) -> int:
        """Return the place of a column; spaces around its name do not count."""
        places = [place for place, text in enumerate(header) if text == name] or [
            place for place, text in enumerate(header) if text.strip() == name
        ]
        if not places:
            raise DataError(
                f"{self._table} has no column {name}; its first line names {', '.join(header) or 'nothing'}: set "
                f"`data.csv.path`, `data.csv.targets` or `data.csv.separator` ({self._cfg.separator!r})"
                + (", or the key that names this column" if name in self._further else "")
            )
        if len(places) > 1:
            raise DataError(f"{self._table} has two columns {name}; rename one of them")
        return places[0]

    def _row(self, record: _Record, header: list[str], columns: list[int]) -> Row:
        first, last, fields = record
        if self._last >= len(fields):
            raise DataError(
                f"{self._table} line {first} has fewer columns than the header ({len(fields)} of {len(header)})"
            )
        path, *values = [fields[column].strip() for column in columns]
        if len(fields) != len(header) or last > first or "\0" in "".join(values):
            for fault in self._faults(record, len(header), (path, *values)):
                self._findings.refuse(f"{self._table} line {first}", fault)
        targets, further = values[: len(self._cfg.targets)], values[len(self._cfg.targets) :]
        row = Row(self._table, first, path and path + self._cfg.suffix, self._shared(tuple(targets)), tuple(further))
        return self._shorten(row, self._findings)

    def _shared(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        """Return the same targets of an earlier row: a million rows of a thousand classes take 130 MB less."""
        return self._targets.setdefault(fields, fields) if len(self._targets) < MOST_SHARED else fields

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


def _undecodable(table: Path) -> str:
    """Return what is wrong with a table that is not UTF-8."""
    content = table.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _UTF16.format(table)
    if content.startswith(b"PK"):
        return f'{table} is a spreadsheet or an archive, not a CSV file: save it as UTF-8 (in Excel: "CSV UTF-8")'
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return (
            f"{table} line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the table as UTF-8 (in Excel: "
            '"CSV UTF-8"), or convert it: iconv -f WINDOWS-1252 -t UTF-8'
        )
    raise AssertionError("unreachable")
