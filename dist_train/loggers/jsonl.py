"""``metrics.jsonl``: the rows of a run, one JSON object a line."""

import json
from pathlib import Path

from dist_train.loggers.base import Row
from dist_train.run.result import Status
from dist_train.system.files import atomic_write


class JsonlSink:
    """``metrics.jsonl``: one object a line.

    Opening rewinds it: rows beyond ``step``, or of evaluations after ``evaluated``, were written by an attempt that
    was killed before it could save, and will be written again.
    """

    def __init__(self, path: Path, step: int, evaluated: int) -> None:
        lines = path.read_bytes().splitlines() if path.exists() else []
        self.kept = [row for row in map(_parse, lines) if row is not None and _precedes(row, step, evaluated)]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(row) + "\n" for row in self.kept).encode())
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 - closed by close()

    def row(self, row: Row) -> None:
        try:
            self._file.write(json.dumps(row) + "\n")
        except OSError as error:
            error.filename = self._file.name  # writing to an open file does not tell which
            raise

    def close(self, status: Status, exit_code: int) -> None:
        self._file.close()


def _parse(line: bytes) -> Row | None:
    """A row; None for one that was cut short by a kill, or is not ours."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) and "split" in row else None


def _precedes(row: Row, step: int, evaluated: int) -> bool:
    return bool(row["step"] <= (evaluated if row["split"] == "val" else step))
