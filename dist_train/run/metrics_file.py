"""The one reader of ``metrics.jsonl``: complete rows in the order of the file, in bounded memory. Imports no torch.

A kill may leave half a line, and a power loss a page of zeros: the reader skips whatever is not a row.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.files import open_regular

Row = dict[str, Any]
"""``step``, ``epoch``, ``split`` and metrics by name."""

LONGEST_LINE = 1 << 20
"""Bytes. A longer line is not a row."""
LONGEST_NAME = 200
LARGEST = 1 << 63
TAIL = 1 << 16
"""Bytes at the end of the file in which we search for the last row."""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows, one at a time; none if there is no file.

    Raises:
        OSError: the file exists but cannot be read.
    """
    return RowFollower(path).take()


def last_step(path: Path) -> int:
    """Return the step of the last row; 0 if there is none, or the file cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            rows = list(map(parse_row, file.read().splitlines()))
    except OSError:
        return 0
    return next((int(row["step"]) for row in reversed(rows) if row is not None), 0)


def live_step(run: RunDir) -> int:
    """Return the last optimizer step that the run folder records. It may be later than the last checkpoint."""
    return max(int(read_result(run).get("step", 0)), last_step(run.metrics))


def parse_row(line: bytes) -> Row | None:
    """Return the row in ``line``; None if the line is incomplete, damaged, or something else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int or not isinstance(row.get("split"), str):
        return None
    return (
        row
        if 0 <= row["step"] < LARGEST and len(row["split"]) <= LONGEST_NAME and all(map(_is_column, row.items()))
        else None
    )


def _is_column(item: tuple[str, Any]) -> bool:
    """Return whether a name and a value can be shown; an integer of a thousand digits, for example, is no float."""
    name, value = item
    return len(name) <= LONGEST_NAME and not (isinstance(value, int) and abs(value) >= LARGEST)


class RowFollower:
    """Read new rows of a file to which another process appends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def take(self) -> Iterator[Row]:
        """Yield the rows that are new since the last call; all rows if the file was truncated meanwhile.

        Half a line at the end stays for the next call.

        Raises:
            OSError: the file exists but cannot be read.
        """
        try:
            file = open_regular(self._path)
        except FileNotFoundError:
            return
        with file:
            if os.fstat(file.fileno()).st_size < self._offset:
                self._offset = 0
            file.seek(self._offset)
            while line := file.readline(LONGEST_LINE):
                row = parse_row(line)
                if row is None and not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    return  # the rest is still to be written
                self._offset += len(line)
                if row is not None:
                    yield row
