"""The table that ``predict`` writes, row by row: CSV, or parquet if the name of the output ends so."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from dist_train.config.choice_table import Task
from dist_train.errors import ConfigError
from dist_train.inference.predictor import Prediction
from dist_train.system.files import atomic_write
from dist_train.system.foreign_text import csv_cell, printable
from dist_train.system.terminal import check_output, print_any_name, writing_output

GROUP = 4096
"""Rows of a row group of a parquet file, which are in memory together."""

Add = Callable[[Prediction], None]
"""Adds the row of an image to a table."""

FIRST: dict[Task, tuple[str, ...]] = {
    "classification": ("path", "prediction", "probability"),
    "multilabel": ("path", "predictions"),
    "regression": ("path",),
}
"""Columns before those of the classes or regression targets."""


def opened_table(out: Path | None, task: Task, classes: Sequence[str], separator: str) -> AbstractContextManager[Add]:
    """Return a context that opens the table and gives the function that adds a row.

    Args:
        out: the file; None means CSV on stdout.
        separator: between the labels of an image, in CSV.

    Raises:
        ConfigError: the file cannot be written, or is a parquet file and pyarrow is missing or a class has the name of a column.
    """
    if out is not None and out.suffix.lower() == ".parquet":
        return parquet_table(out, task, classes)
    return csv_table(out, task, classes, separator)


@contextmanager
def csv_table(out: Path | None, task: Task, classes: Sequence[str], separator: str) -> Iterator[Add]:
    """Write CSV with numbers of six digits. On a terminal, names hold no control characters."""
    with _text_file(out) as file:
        table = csv.writer(file)
        cell = _shown if file.isatty() else csv_cell
        table.writerow(map(cell, [*FIRST[task], *classes]))

        def add(found: Prediction) -> None:
            decided = [separator.join(each) if isinstance(each, list) else each for each in _decided(found)]
            numbers = [f"{value:.6g}" for value in found.outputs.tolist()]
            shown = [f"{each:.6g}" if isinstance(each, float) else each for each in decided]
            table.writerow(map(cell, [found.image, *shown, *numbers]))

        yield add


@contextmanager
def parquet_table(out: Path, task: Task, classes: Sequence[str]) -> Iterator[Add]:
    """Write a parquet file, whole or not at all: float32 numbers, and for several labels a list of names in each row.

    A path that is not UTF-8 has its bytes as ``\\xff``.
    """
    pa, parquet = _arrow(out)
    clash = [name for name in classes if name in FIRST[task]]
    if clash:
        raise ConfigError(f"--out ({out}): the class {printable(clash[0])} has the name of a column; write a .csv file")
    kinds = {"probability": pa.float32(), "predictions": pa.list_(pa.string())}
    columns = [(name, kinds.get(name, pa.string())) for name in FIRST[task]] + [
        (name, pa.float32()) for name in classes
    ]
    schema = pa.schema(columns)
    check_output("--out", out)
    rows: list[list[Any]] = []
    with writing_output("--out", out), atomic_write(out) as file, parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            arrays = [
                pa.array(column, kind) for column, (_, kind) in zip(zip(*rows, strict=True), columns, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows.clear()

        def add(found: Prediction) -> None:
            path = os.fsencode(str(found.image)).decode("utf-8", "backslashreplace")
            rows.append([path, *_decided(found), *found.outputs.tolist()])
            if len(rows) == GROUP:
                flush()

        yield add
        if rows:
            flush()


def _decided(found: Prediction) -> list[Any]:
    """Return the values of the columns between the path and the classes."""
    match found.task:
        case "classification":
            return [found.label, float(found.outputs.max())]
        case "multilabel":
            return [found.labels]
        case _:
            return []


def _arrow(out: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"--out ({out}): parquet files need pyarrow: pip install 'dist_train[tables]'; or write .csv"
        ) from None
    return pyarrow, pyarrow.parquet


def _shown(value: Any) -> str:
    """Return a value for a terminal, which would obey what a file's name may hold."""
    return printable(csv_cell(value))


def _text_file(out: Path | None) -> AbstractContextManager[TextIO]:
    if out is None:
        print_any_name()
        return nullcontext(sys.stdout)
    check_output("--out", out)
    with writing_output("--out", out):
        return open(out, "w", newline="", encoding="utf-8", errors="surrogateescape")
