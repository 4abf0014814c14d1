"""The one reader of ``metrics.jsonl``: whole rows only, in the order of the file, in bounded memory. No torch here.

A kill may leave half a line, and a power loss a page of zeros: the reader skips such lines, and everything else that is not a row.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dist_train.run.folder import RunDir
from dist_train.run.result import read_result

Row = dict[str, Any]
"""``step``, ``epoch``, ``split`` and metrics by name."""

LONGEST_LINE = 1 << 20
"""Bytes. A longer line is not a row of ours."""
TAIL = 1 << 16
"""Bytes at the end of the file that are searched for the last row."""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows, one at a time; none if there is no file.

    Raises:
        OSError: the file is there and cannot be read.
    """
    return RowFollower(path).take()


def last_step(path: Path) -> int:
    """Return the step of the last row; 0 if there is none, or the file cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            rows = list(map(parse_row, file.read().splitlines()))
    except OSError:
        return 0
    return next((int(row["step"]) for row in reversed(rows) if row is not None), 0)


def live_step(run: RunDir) -> int:
    """Return the last optimizer step that the run folder knows of; a run may be ahead of its checkpoints."""
    return max(int(read_result(run).get("step", 0)), last_step(run.metrics))


def parse_row(line: bytes) -> Row | None:
    """Return the row in ``line``; None if it was cut short, is damaged, or is something else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int or not isinstance(row.get("split"), str):
        return None
    return row


class RowFollower:
    """Reads on where it stopped, while another process appends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def take(self) -> Iterator[Row]:
        """Yield the rows that came since the last call, from the top if the file was rewound meanwhile.

        Half a line is left for the next call.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            file = open(self._path, "rb")  # noqa: SIM115 - closed below
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
