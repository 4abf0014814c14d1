"""``data.format: csv``: tables with a header and one line per image: its path, and its label(s) or target(s)."""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dist_train.config.sections.data import CsvConfig, DataConfig
from dist_train.data.formats.base import UNASKED, Entry, Findings, Listing, Only, Target
from dist_train.data.formats.class_names import MISSING, Labels, composed, few, natural, same_names, shortened
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.table_columns import Columns, column_names, columns_of
from dist_train.data.formats.table_file import Row, Shorten, read_table
from dist_train.data.formats.table_paths import find_images
from dist_train.data.formats.walk import existing_root
from dist_train.errors import ConfigError, DataError
from dist_train.system.machine.memory import uncollected

LARGEST = float(np.finfo(np.float32).max)

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""What everybody reads as a number. Python also takes ``1_000`` for 1000."""

SWITCHES = frozenset("01")

TargetOf = Callable[[Row], Target]


@uncollected()
def csv_tables(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read the tables ``data.csv.train`` and ``data.csv.val``, or the table of one split."""
    root, findings = existing_root(cfg), Findings()
    if only is not None:
        return _one_split(cfg, root, only, findings)
    rows = read_table(root, cfg.csv.train, cfg.csv, findings, [*column_names(cfg).values()], _shorten(cfg))
    val = None
    if not cfg.draws_validation:
        if cfg.csv.val is None:
            raise ConfigError(
                "`data.csv.val` (null) leaves no validation set: name a table, or set `data.val_fraction`"
            )
        val = read_table(root, cfg.csv.val, cfg.csv, findings, shorten=_shorten(cfg))
    classes, target_of = _targets(cfg, rows, findings)
    train, columns = _with_columns(root, cfg, rows, target_of, findings)
    held_out = None if val is None else _in_order(cfg, _entries(root, cfg.csv, val, target_of, findings, repeats=False))
    return Listing(FileImages(str(root)), classes, train, held_out, findings=findings, columns=columns)


def _one_split(cfg: DataConfig, root: Path, only: Only, findings: Findings) -> Listing:
    """Read the table of one split; with ``data.val_fraction`` or ``data.fold`` the validation set is a part of the training table."""
    drawn = only.split == "val" and cfg.draws_validation
    name, key = (cfg.test, "data.test") if only.split == "test" else (cfg.csv.val, "data.csv.val")
    if drawn:
        name = cfg.csv.train
    if name is None:
        raise ConfigError(f"`{key}` (null): set it to the table of the {only.split} set, relative to `data.root`")
    further = [*column_names(cfg).values()] if drawn else []
    rows = read_table(root, name, cfg.csv, findings, further, _shorten(cfg))
    if cfg.task == "classification":
        rows = _of_known_classes(rows, only, findings)
    classes, target_of = _targets(cfg, rows, findings, only.classes)
    if len(classes) != len(only.classes):
        raise DataError(f"`data.csv.targets` names {len(classes)} columns, and the run has {len(only.classes)} outputs")
    images = FileImages(str(root))
    if drawn:
        entries, columns = _with_columns(root, cfg, rows, target_of, findings)
        return Listing(images, classes, entries, None, findings=findings, columns=columns)
    return Listing(
        images,
        classes,
        [],
        _in_order(cfg, _entries(root, cfg.csv, rows, target_of, findings, repeats=False)),
        findings=findings,
    )


def _of_known_classes(rows: list[Row], only: Only, findings: Findings) -> list[Row]:
    """Return the rows of the run's classes, and note the names of the others."""
    labels = Labels(only.classes)
    unknown = [row for row in rows if labels.find(row.fields[0]) is None]
    if unknown:
        names = sorted({row.fields[0] for row in unknown}, key=natural)
        findings.notes.append(f"{len(unknown)} images of classes that the run does not know are left out: {few(names)}")
    return [row for row in rows if labels.find(row.fields[0]) is not None]


def _targets(
    cfg: DataConfig, rows: list[Row], findings: Findings, known: tuple[str, ...] | None = None
) -> tuple[list[str], TargetOf]:
    """Return the names of the outputs, and the function from a row to its target.

    Args:
        rows: of the training table, whose classes are those of the data set.
        known: the classes of a run, in their place.
    """
    columns = list(cfg.csv.targets)
    if cfg.task == "regression":
        return columns, lambda row: _numbers(row, findings)
    if _a_column_per_label(cfg):
        return columns, lambda row: row.labels
    if len(columns) > 1:
        raise ConfigError(
            f"`data.csv.targets` ({', '.join(columns)}) names {len(columns)} columns, and one class per image needs one; "
            "set `data.task` to multilabel or regression"
        )
    separator = cfg.csv.label_separator if cfg.task == "multilabel" else None
    if known:
        return list(known), _labeller(cfg, known, separator, "the run")
    if cfg.classes:
        _all_used(cfg, rows, separator)
        return list(cfg.classes), _labeller(cfg, cfg.classes, separator, "`data.classes`")
    classes = _classes_of(rows, separator, findings)
    if not classes:
        raise DataError(f"column {columns[0]} of {rows[0].table} holds no label at all")
    return classes, _labeller(cfg, classes, separator, "the training table")


def _all_used(cfg: DataConfig, rows: list[Row], separator: str | None) -> None:
    """Raise an error if ``data.classes`` names a class without a training image."""
    used = {composed(name) for row in rows for name in _names(row, separator)}
    unused = [name for name in cfg.classes or () if composed(name) not in used]
    if unused:
        raise ConfigError(f"`data.classes` names {few(unused)}; no line of {cfg.csv.train} has this label")


def _classes_of(rows: list[Row], separator: str | None, findings: Findings) -> list[str]:
    """Return the labels of the training table, sorted."""
    first: dict[str, Row] = {}
    for row in rows:
        for name in _names(row, separator):
            first.setdefault(name, row)
            if name.lower() in MISSING:
                findings.refuse(
                    row.where,
                    f"the label {name!r} stands for a missing value; remove the line, or list it in `data.classes` if it "
                    "is the name of a class",
                )
    for names in same_names(first):
        findings.refuse(
            first[names[1]].where,
            f"the label {shortened(names[1])!r} looks like that of line {first[names[0]].line}, but has other characters (Unicode NFC "
            "and NFD); write one form in the whole table",
        )
    return sorted(first, key=natural)


def _labeller(cfg: DataConfig, classes: Sequence[str], separator: str | None, source: str) -> TargetOf:
    labels = Labels(classes)

    def label(row: Row, name: str) -> int:
        found = labels.find(name)
        if found is None:
            raise DataError(f"{row.where} has class {shortened(name)!r}, which {source} does not have")
        return found

    known: dict[tuple[str, ...], int] = {}

    def one(row: Row) -> Target:
        found = known.get(row.fields)
        if found is None:
            (name,) = _names(row, None)
            found = known[row.fields] = label(row, name)
        return found

    def several(row: Row) -> Target:
        return tuple(sorted({label(row, name) for name in _names(row, separator)}))

    return one if cfg.task == "classification" else several


def _names(row: Row, separator: str | None) -> list[str]:
    """Return the classes of a row; there may be none where ``separator`` allows several."""
    (text,) = row.fields
    if separator is not None:
        return [name.strip() for name in text.split(separator) if name.strip()]
    if not text:
        raise DataError(f"{row.where} has no label")
    return [text]


def _numbers(row: Row, findings: Findings) -> tuple[float, ...]:
    try:
        values = tuple(float(text) for text in row.fields)
    except ValueError:
        values = (math.nan,)
    if not all(abs(value) <= LARGEST for value in values):  # NaN fails this comparison too
        comma = "; write a decimal point, not a comma" if any("," in text for text in row.fields) else ""
        shown = ", ".join(repr(shortened(text)) for text in row.fields)
        raise DataError(f"{row.where} has targets {shown}, which are not all finite numbers of 32 bits{comma}")
    if not all(map(NUMBER.fullmatch, row.fields)):
        findings.refuse(row.where, f"targets {few(row.fields)} are not plain numbers; write digits only")
    return values


def _a_column_per_label(cfg: DataConfig) -> bool:
    return cfg.task == "multilabel" and len(cfg.csv.targets) > 1


def _shorten(cfg: DataConfig) -> Shorten:
    return _switches if _a_column_per_label(cfg) else lambda row, _: row


def _switches(row: Row, findings: Findings) -> Row:
    """Return a row with its labels in place of its fields, which are 0 or 1."""
    fields: Sequence[object] = row.fields
    if not SWITCHES.issuperset(row.fields):
        values = _numbers(row, findings)
        if not set(values) <= {0.0, 1.0}:
            raise DataError(f"{row.where} has labels {few(row.fields)}; with a column per class they must be 0 or 1")
        fields = ["1" if value else "0" for value in values]
    return row._replace(fields=(), labels=tuple(place for place, text in enumerate(fields) if text == "1"))


def _with_columns(
    root: Path, cfg: DataConfig, rows: list[Row], target_of: TargetOf, findings: Findings
) -> tuple[list[Entry], Columns]:
    """Return the entries of the training table, sorted by name, and its further columns."""
    entries = _entries(root, cfg.csv, rows, target_of, findings, repeats=True)
    columns = columns_of(cfg, ((entry[0], row) for entry, row in zip(entries, rows, strict=True)))
    return _in_order(cfg, entries), columns


def _in_order(cfg: DataConfig, entries: list[Entry]) -> list[Entry]:
    """Return entries in the order of their names; of the same name in the order of their sizes and targets.

    Labels are in the order of their rows of 0 and 1, which are compared from the first label on.
    """
    if cfg.task != "multilabel":
        return sorted(entries)

    def key(entry: Entry) -> tuple[str, int, list[float]]:
        name, size, labels = entry
        assert isinstance(labels, tuple)
        return name, size, [-label for label in labels]

    return sorted(entries, key=key)


def _entries(
    root: Path, cfg: CsvConfig, rows: list[Row], target_of: TargetOf, findings: Findings, repeats: bool
) -> list[Entry]:
    """Return the entries of a table, in its order.

    Args:
        repeats: an image may stand in several lines, with the same target: it is drawn as often.
    """
    first: dict[str, int] = {}
    firsts = [first.setdefault(_normal(row.path), place) for place, row in enumerate(rows)]
    found = find_images(root, [rows[place] for place in first.values()])
    entries: list[Entry] = []
    for place, (earlier, row) in enumerate(zip(firsts, rows, strict=True)):
        if earlier == place:
            entry = (next(found), UNASKED, target_of(row))
        else:
            entry = _again(rows[earlier], entries[earlier], row, target_of, repeats)
        entries.append(entry)
    if repeated := len(rows) - len(first):
        findings.notes.append(f"{repeated} lines of {cfg.train} repeat an image; each line counts as an image")
    return entries


def _normal(path: str) -> str:
    """Return ``os.path.normpath`` of a path; the path itself if it is the same: a million copies take 120 MB."""
    if path and path[0] != "." and path[-1] != "/" and "/." not in path and "//" not in path:
        return path  # as most are: a quarter of the time
    normal = os.path.normpath(path)
    return path if normal == path else normal


def _again(first: Row, entry: Entry, row: Row, target_of: TargetOf, repeats: bool) -> Entry:
    """Return the entry of an image that an earlier line names too."""
    if not repeats:
        raise DataError(
            f"{row.where} names {shortened(row.path)} a second time, after {first.where}; remove one of the lines"
        )
    if target_of(row) != entry[2]:
        raise DataError(
            f"{row.where} names {shortened(row.path)} with another target than {first.where}; remove one of the lines, or write all "
            "labels in one line (`data.task` multilabel)"
        )
    return entry
