"""A CSV file as a table in columns: blocks of plain lines are split as a whole, others line by line."""

import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO

from dist_train.config.sections.data import CsvConfig
from dist_train.data.formats.base import Findings
from dist_train.data.formats.tables.blocks import BLOCK, columns_of
from dist_train.data.formats.tables.careful import UTF16, BrokenQuotesError, Lines
from dist_train.data.formats.tables.numbers import labels_of, switched
from dist_train.data.formats.tables.rows import Row, Table
from dist_train.data.stored.survey import note
from dist_train.errors import ConfigError, DataError

BAD_SEPARATORS = '"\r\n\0'

MOST_SHARED = 50_000
"""Different texts of a target up to which equal ones are kept once: there are not so many classes."""


def read_table(
    root: Path, name: str, cfg: CsvConfig, findings: Findings, further: Sequence[str] = (), switches: bool = False
) -> Table:
    """Return the table ``name`` below ``root``, and add lines that a run must not begin with to ``findings``.

    Args:
        further: names of columns to read beside those of ``cfg``.
        switches: each target is a label, 0 or 1, and becomes a part of ``Table.labels``.

    Raises:
        ConfigError, DataError: the file cannot be read, lacks a column, or has a line without a path or target.
    """
    if cfg.separator in BAD_SEPARATORS:
        raise ConfigError(f"`data.csv.separator` ({cfg.separator!r}) cannot separate columns; use ',', ';' or '\\t'")
    file = root / name

    def by_lines(noticed: Findings, strict: bool = True) -> Table:
        return _Reading(Lines(root, file, cfg, further, noticed, strict), file, cfg, noticed, switches).by_lines()

    try:
        note(file)
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise DataError(f"cannot read the table {file}: it is not a file")
        noticed = Findings()
        try:
            lines = Lines(root, file, cfg, further, noticed)
            found = _Reading(lines, file, cfg, noticed, switches).by_blocks()
        except (DataError, UnicodeDecodeError, BrokenQuotesError):
            return by_lines(findings)  # it raises what it meets first, as blocks may not
        findings.add(noticed)
        return found
    except BrokenQuotesError as error:
        findings.refuse(f"{file} line {error.line}", f"{error}; write a quote inside a quoted value twice")
        return by_lines(Findings(), strict=False)
    except UnicodeDecodeError:
        raise DataError(_undecodable(file)) from None
    except (OSError, ValueError) as error:  # ValueError: the name holds a zero byte
        raise DataError(
            f"cannot read the table {file}: {getattr(error, 'strerror', None) or error}; `data.csv` names the tables, relative to `data.root`"
        ) from None


class _Reading:
    """One reading of a file into a table.

    Args:
        switches: as in ``read_table``.
    """

    def __init__(self, lines: Lines, file: Path, cfg: CsvConfig, findings: Findings, switches: bool) -> None:
        self._lines, self._file, self._cfg, self._findings, self._switches = lines, file, cfg, findings, switches
        self._shared: list[dict[str, str]] = []
        self._table = Table(file, [], [], [])

    def by_lines(self) -> Table:
        """Read one line after the other."""
        with self._opened() as (file, line):
            for row, _ in self._lines.rows(file, line):
                self._add(row)
        return self._whole()

    def by_blocks(self) -> Table:
        """Read blocks of plain lines by columns, which is ten times as fast, and others line by line."""
        with self._opened() as (file, line):
            while text := file.read(BLOCK):
                text += file.readline()
                line = self._add_columns(text, line) or self._add_lines(text, file, line)
        return self._whole()

    @contextmanager
    def _opened(self) -> Iterator[tuple[TextIO, int]]:
        """Yield the file behind its header, and the number of lines of that."""
        with open(self._file, newline="", encoding="utf-8-sig") as file:
            line = self._lines.read_header(file)
            targets = 0 if self._switches else len(self._cfg.targets)
            further = len(self._lines.places) - 1 - len(self._cfg.targets)
            self._table = Table(self._file, [], [[] for _ in range(targets)], [[] for _ in range(further)])
            self._shared = [{} for _ in range(targets + further)]
            yield file, line

    def _whole(self) -> Table:
        if not self._table.paths:
            raise DataError(f"{self._file} has a header and no lines")
        return self._table

    def _add_columns(self, text: str, line: int) -> int | None:
        """Add a block of plain lines, and return the number of its last line; None if it has others."""
        found = columns_of(text, self._cfg.separator, self._lines.width, self._lines.places)
        if found is None:
            return None
        paths, *texts = found
        if self._switches:
            labels = labels_of(texts[: len(self._cfg.targets)])
            if labels is None:
                return None
            self._table.labels += labels
            texts = texts[len(self._cfg.targets) :]
        if self._cfg.suffix:
            paths = [path and path + self._cfg.suffix for path in paths]
        self._table.add(range(line + 1, line + 1 + len(paths)), paths, self._kept_once(texts))
        return line + len(paths)

    def _add_lines(self, text: str, file: TextIO, line: int) -> int:
        """Add the rows of a block and, where the last one goes on behind it, of the lines there."""
        inner = [*io.StringIO(text, newline="")]
        end, last = line + len(inner), line
        for row, last in self._lines.rows(chain(inner, file), line):
            self._add(row)
            if last >= end:
                break
        return last

    def _add(self, row: Row) -> None:
        if self._switches:
            row = switched(row, self._findings)
            self._table.labels.append(row.labels)
        texts = [[text] for text in (*row.fields, *row.further)]
        self._table.add([row.line], [row.path], self._kept_once(texts))

    def _kept_once(self, columns: Sequence[list[str]]) -> list[list[str]]:
        """Return columns with the same objects for equal texts: a million labels of a thousand classes take 60 MB less."""
        return [
            [*map(known.setdefault, column, column)] if len(known) < MOST_SHARED else column
            for column, known in zip(columns, self._shared, strict=True)
        ]


def _undecodable(table: Path) -> str:
    """Return what is wrong with a table that is not UTF-8."""
    content = table.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return UTF16.format(table)
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
