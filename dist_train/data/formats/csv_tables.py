"""``data.format: csv``: tables with a header, one line an image, with its path and its label(s) or target(s)."""

import csv
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dist_train.config.sections.data import CsvConfig, DataConfig
from dist_train.data.formats.base import Entry, Listing, Target
from dist_train.data.formats.folders import existing_root
from dist_train.data.formats.images import FileImages, file_size
from dist_train.errors import ConfigError, DataError

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Row:
    """One line: where it stands, for messages; the image's path; the text in each column of ``data.csv.targets``."""

    where: str
    path: str
    fields: tuple[str, ...]


def csv_tables(cfg: DataConfig) -> Listing:
    """The tables ``data.csv.train`` and ``data.csv.val``."""
    root = existing_root(cfg)
    train = _read(root, cfg.csv.train, cfg.csv)
    val = None
    if cfg.val_fraction is None:
        if cfg.csv.val is None:
            raise ConfigError(
                "`data.csv.val` (null) leaves no validation set: name a table, or set `data.val_fraction`"
            )
        val = _read(root, cfg.csv.val, cfg.csv)
    classes, target_of = _targets(cfg, train)
    images = FileImages(str(root))
    return Listing(
        images, classes, _entries(root, train, target_of), None if val is None else _entries(root, val, target_of)
    )


def _read(root: Path, name: str, cfg: CsvConfig) -> list[Row]:
    table = root / name
    wanted = (cfg.path, *cfg.targets)
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file, delimiter=cfg.separator)
            lacking = [column for column in wanted if column not in (lines.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"{table} has no column {' and none '.join(lacking)}; its first line names "
                    f"{', '.join(lines.fieldnames or ['nothing'])}: set `data.csv.path`, `data.csv.targets` or "
                    f"`data.csv.separator` ({cfg.separator!r})"
                )
            twice = [column for column in wanted if list(lines.fieldnames or ()).count(column) > 1]
            if twice:
                raise DataError(f"{table} has two columns {twice[0]}; rename the one that is not meant")
            rows = []
            for line in lines:
                where = f"{table} line {lines.line_num}"
                if any(line[column] is None for column in wanted):
                    raise DataError(f"{where} has fewer columns than the header")
                rows.append(Row(where, line[cfg.path].strip(), tuple(line[column].strip() for column in cfg.targets)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the table {table}: {error}; `data.csv` names the tables, below `data.root`"
        ) from None
    if not rows:
        raise DataError(f"{table} has a header and no lines")
    return rows


def _targets(cfg: DataConfig, train: list[Row]) -> tuple[list[str], Callable[[Row], Target]]:
    """The names of the outputs, and how a row becomes a target."""
    columns = list(cfg.csv.targets)
    if cfg.task == "regression":
        return columns, _numbers
    if cfg.task == "multilabel" and len(columns) > 1:
        return columns, _switches
    if len(columns) > 1:
        raise ConfigError(
            f"`data.csv.targets` ({', '.join(columns)}) names {len(columns)} columns, and one class an image needs one; "
            "set `data.task` to multilabel or regression"
        )
    split = cfg.csv.label_separator if cfg.task == "multilabel" else None
    classes = sorted({name for row in train for name in _names(row, split)}, key=_natural)
    if not classes:
        raise DataError(f"column {columns[0]} of {train[0].where.rsplit(' line', 1)[0]} holds no label at all")
    known = {name: number for number, name in enumerate(classes)}

    def target(row: Row) -> Target:
        names = _names(row, split)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DataError(f"{row.where} has class {unknown[0]!r}, which the training table has not")
        if cfg.task == "classification":
            return known[names[0]]
        return tuple(float(name in names) for name in classes)

    return classes, target


def _names(row: Row, separator: str | None) -> list[str]:
    """The classes of a row; none at all is allowed where there may be several."""
    (text,) = row.fields
    if separator is not None:
        return [name.strip() for name in text.split(separator) if name.strip()]
    if not text:
        raise DataError(f"{row.where} has no label")
    return [text]


def _natural(name: str) -> tuple[int, int, str]:
    """Sorts whole numbers by value, before names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _numbers(row: Row) -> Target:
    try:
        values = tuple(float(text) for text in row.fields)
    except ValueError:
        values = (math.nan,)
    if not all(abs(value) <= LARGEST for value in values):  # not of NaN
        raise DataError(
            f"{row.where} has targets {', '.join(map(repr, row.fields))}, which are not all finite numbers of 32 bits"
        )
    return values


def _switches(row: Row) -> Target:
    values = _numbers(row)
    assert isinstance(values, tuple)
    if not set(values) <= {0.0, 1.0}:
        raise DataError(f"{row.where} has labels {', '.join(row.fields)}; with a column a class they must be 0 or 1")
    return values


def _entries(root: Path, rows: list[Row], target_of: Callable[[Row], Target]) -> list[Entry]:
    entries: list[Entry] = []
    seen: dict[str, str] = {}
    for row in rows:
        path = os.path.normpath(row.path)
        if path in seen:
            raise DataError(f"{row.where} names {row.path} a second time, after {seen[path]}")
        seen[path] = row.where
        try:
            size = file_size(str(root), row.path)
        except DataError as error:
            raise DataError(f"{row.where}: {error}; paths are relative to {root}") from None
        entries.append((row.path, size, target_of(row)))
    return sorted(entries)
