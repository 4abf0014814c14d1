"""The table that ``predict`` writes, row by row: CSV, or parquet if the name of the file ends in .parquet."""

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from dist_train.config.choice_table import Task
from dist_train.errors import ConfigError
from dist_train.inference.predicting.places import is_parquet
from dist_train.system.foreign_text import csv_cell, printable
from dist_train.system.terminal import print_any_name, writing_output, written_whole

if TYPE_CHECKING:
    from dist_train.inference.predictor import Prediction

GROUP = 4096
"""Rows of a row group of a parquet file, which are in memory together."""

Add = Callable[["Prediction", NDArray[np.float32] | None], None]
"""Adds the row of an image to a table; with its embedding float32 [E], if the table has a column for it."""

EMBEDDING = "embedding"
"""The column of embeddings, lists of float32, after the classes."""

FIRST: dict[Task, tuple[str, ...]] = {
    "classification": ("path", "prediction", "probability"),
    "multilabel": ("path", "predictions"),
    "regression": ("path",),
}
"""Columns before those of the classes or regression targets."""


def opened_table(
    out: Path | None, task: Task, classes: Sequence[str], separator: str, width: int = 0
) -> AbstractContextManager[Add]:
    """Return a context that opens the table and gives the function that adds a row.

    A file appears whole or not at all.

    Args:
        out: the file; None means CSV on stdout.
        separator: between the labels of an image, in CSV.
        width: E of the embeddings in a parquet file; 0 for a table without them.

    Raises:
        ConfigError: the file cannot be written, or is a parquet file and pyarrow is missing or a class has the name of a column.
    """
    if out is not None and is_parquet(out):
        return parquet_table(out, task, classes, width)
    return csv_table(out, task, classes, separator)


@contextmanager
def csv_table(out: Path | None, task: Task, classes: Sequence[str], separator: str) -> Iterator[Add]:
    """Write CSV with numbers of six digits. On a terminal, names hold no control characters."""
    with _text_file(out) as file:
        table = csv.writer(file)
        cell = _shown if file.isatty() else csv_cell

        def write(row: list[Any]) -> None:
            with _writing(out):
                table.writerow(map(cell, row))

        def add(found: "Prediction", _embedding: NDArray[np.float32] | None = None) -> None:
            decided = [separator.join(each) if isinstance(each, list) else each for each in _decided(found)]
            numbers = [f"{value:.6g}" for value in found.outputs.tolist()]
            shown = [f"{each:.6g}" if isinstance(each, float) else each for each in decided]
            write([found.image, *shown, *numbers])

        write([*FIRST[task], *classes])
        yield add


@contextmanager
def parquet_table(out: Path, task: Task, classes: Sequence[str], width: int) -> Iterator[Add]:
    """Write a parquet file: float32 numbers, and for several labels a list of names in each row.

    A path that is not UTF-8 has its bytes as ``\\xff``.
    """
    pa, parquet = _arrow(out)
    embedded = [EMBEDDING] if width else []
    clash = [name for name in classes if name in (*FIRST[task], *embedded)]
    if clash:
        raise ConfigError(f"--out ({out}): the class {printable(clash[0])} has the name of a column; write a .csv file")
    kinds = {"probability": pa.float32(), "predictions": pa.list_(pa.string())}
    columns = [(name, kinds.get(name, pa.string())) for name in FIRST[task]]
    columns += [(name, pa.float32()) for name in classes] + [(name, pa.list_(pa.float32(), width)) for name in embedded]
    schema = pa.schema(columns)
    rows: list[tuple[Prediction, NDArray[np.float32] | None]] = []
    with written_whole("--out", out) as file, parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            values = [*_first_columns(rows), *np.stack([found.outputs.numpy() for found, _ in rows], axis=1)]
            arrays = [pa.array(column, kind) for column, (_, kind) in zip(values, columns, strict=False)]
            if width:
                flat = np.concatenate([row_E for _, row_E in rows if row_E is not None])
                arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), width))
            with _writing(out):
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows.clear()

        def add(found: "Prediction", embedding: NDArray[np.float32] | None = None) -> None:
            rows.append((found, embedding))
            if len(rows) == GROUP:
                flush()

        yield add
        if rows:
            flush()


def _first_columns(rows: Sequence[tuple["Prediction", Any]]) -> list[tuple[Any, ...]]:
    """Return the columns before those of the classes."""
    paths = [os.fsencode(str(found.image)).decode("utf-8", "backslashreplace") for found, _ in rows]
    return list(zip(*([path, *_decided(found)] for path, (found, _) in zip(paths, rows, strict=True)), strict=True))


def _decided(found: "Prediction") -> list[Any]:
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
    """Return a value for a terminal, which would obey control characters in the name of a file."""
    return printable(csv_cell(value))


@contextmanager
def _text_file(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        print_any_name()
        yield sys.stdout
        return
    with written_whole("--out", out) as file:
        text = io.TextIOWrapper(file, newline="", encoding="utf-8", errors="surrogateescape")
        yield text
        with _writing(out):
            text.detach()  # written, but not closed


def _writing(out: Path | None) -> AbstractContextManager[None]:
    """Return the context that turns an ``OSError`` of a file into a ``ConfigError``. The command handles that of stdout."""
    return nullcontext() if out is None else writing_output("--out", out)
