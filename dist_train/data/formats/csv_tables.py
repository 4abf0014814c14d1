"""``data.format: csv``: tables with a header and one line per image: its path, and its label(s) or target(s)."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_train.config.sections.data import CsvConfig, DataConfig
from dist_train.data.formats.base import Entries, Findings, Listing, Only, Target
from dist_train.data.formats.class_names import shortened
from dist_train.data.formats.images import FileImages
from dist_train.data.formats.tables.file import read_table
from dist_train.data.formats.tables.further import Columns, column_names, columns_of
from dist_train.data.formats.tables.order import Order
from dist_train.data.formats.tables.paths import find_image, looked_up
from dist_train.data.formats.tables.rows import Row, Table
from dist_train.data.formats.tables.targets import Targets, a_column_per_label, of_known_classes, targets_of
from dist_train.data.formats.walk import existing_root
from dist_train.data.selection.held_out import draw_numbers
from dist_train.errors import ConfigError, DataError
from dist_train.system.machine.memory import uncollected


@uncollected()
def csv_tables(cfg: DataConfig, only: Only | None = None) -> Listing:
    """Read the tables ``data.csv.train`` and ``data.csv.val``, or the table of one split."""
    root, findings = existing_root(cfg), Findings()
    if only is not None:
        return _one_split(cfg, root, only, findings)
    table = read_table(root, cfg.csv.train, cfg.csv, findings, [*column_names(cfg).values()], a_column_per_label(cfg))
    val = None
    if not cfg.draws_validation:
        if cfg.csv.val is None:
            raise ConfigError(
                "`data.csv.val` (null) leaves no validation set: name a table, or set `data.val_fraction`"
            )
        val = read_table(root, cfg.csv.val, cfg.csv, findings, switches=a_column_per_label(cfg))
    targets = targets_of(cfg, table, findings)
    train, columns = _with_columns(root, cfg, table, targets, findings)
    held_out = None if val is None else _in_order(cfg, *_entries(root, cfg.csv, val, targets, findings, repeats=False))
    return Listing(FileImages(str(root)), targets.names, train, held_out, findings=findings, columns=columns)


def _one_split(cfg: DataConfig, root: Path, only: Only, findings: Findings) -> Listing:
    """Read the table of one split; with ``data.val_fraction`` or ``data.fold`` the validation set is a part of the training table."""
    drawn = only.split == "val" and cfg.draws_validation
    name, key = (cfg.test, "data.test") if only.split == "test" else (cfg.csv.val, "data.csv.val")
    if drawn:
        name = cfg.csv.train
    if name is None:
        raise ConfigError(f"`{key}` (null): set it to the table of the {only.split} set, relative to `data.root`")
    further = [*column_names(cfg).values()] if drawn else []
    table = read_table(root, name, cfg.csv, findings, further, a_column_per_label(cfg))
    if cfg.task == "classification":
        table = of_known_classes(table, only.classes, findings)
    targets = targets_of(cfg, table, findings, only.classes)
    if len(targets.names) != len(only.classes):
        raise DataError(
            f"`data.csv.targets` names {len(targets.names)} columns, and the run has {len(only.classes)} outputs"
        )
    images = FileImages(str(root))
    if drawn:
        entries, columns = _with_columns(root, cfg, table, targets, findings)
        return Listing(images, targets.names, entries, None, findings=findings, columns=columns)
    held_out = _in_order(cfg, *_entries(root, cfg.csv, table, targets, findings, repeats=False))
    return Listing(images, targets.names, [], held_out, findings=findings)


def _with_columns(
    root: Path, cfg: DataConfig, table: Table, targets: Targets, findings: Findings
) -> tuple[Entries, Columns]:
    """Return the entries of the training table, sorted by name, and its further columns."""
    number = partial(draw_numbers, cfg) if cfg.draws_validation and cfg.csv.group is None else None
    entries, order = _entries(root, cfg.csv, table, targets, findings, repeats=True, number=number)
    columns = columns_of(cfg, entries.names, table)
    return _in_order(cfg, entries, order), columns


def _in_order(cfg: DataConfig, entries: Entries, order: Order | None) -> Entries:
    """Return entries in the order of their names; of the same name in the order of their targets.

    Labels are in the order of their rows of 0 and 1, which are compared from the first label on.

    Args:
        entries: their ``draws`` are in the order of the names already.
        order: that of the names, if no two are equal.
    """
    if order is not None and isinstance(order.places, range):
        return entries
    names, targets = entries.names, entries.targets

    def key(place: int) -> tuple[str, Target]:
        target = targets[place]
        if cfg.task == "multilabel" and isinstance(target, tuple):
            target = tuple(-label for label in target)
        return names[place], target

    places = sorted(range(len(names)), key=key) if order is None else order.places
    return Entries([names[place] for place in places], [targets[place] for place in places], draws=entries.draws)


def _entries(
    root: Path,
    cfg: CsvConfig,
    table: Table,
    targets: Targets,
    findings: Findings,
    repeats: bool,
    number: Callable[[Sequence[str]], NDArray[np.int64]] | None = None,
) -> tuple[Entries, Order | None]:
    """Return the entries of a table in its order, and the order of their names if no two are equal.

    Args:
        repeats: an image may stand in several lines, with the same target: it is drawn as often.
        number: returns the numbers of the draw, for ``Entries.draws``.
    """
    order = Order.of(table.paths)
    found_lost, draws = looked_up(str(root), table.paths, order, number if order.plain and not order.repeats else None)
    lost = {*found_lost}
    names, (found, left) = [*table.paths], targets.column(table)
    for place in sorted({*lost, *left, *order.repeats}):  # in the order of the lines: the first fault raises its error
        row, earlier = table.row(place), order.repeats.get(place)
        if earlier is not None:
            _check_again(table.row(earlier), found[earlier], row, targets, repeats)
            names[place], found[place] = names[earlier], found[earlier]
            continue
        if place in lost:
            names[place] = find_image(root, row)
        if found[place] is None:
            found[place] = targets.of(row)
    if order.repeats:
        findings.notes.append(
            f"{len(order.repeats)} lines of {cfg.train} repeat an image; each line counts as an image"
        )
    distinct = order.plain and not order.repeats and names == table.paths
    if not distinct:
        return Entries(names, _all_there(found)), None
    return Entries(names, _all_there(found), draws=draws), order


def _all_there(targets: list[Target | None]) -> list[Target]:
    return targets  # type: ignore[return-value]


def _check_again(first: Row, target: Target | None, row: Row, targets: Targets, repeats: bool) -> None:
    """Raise the error of a line that names the image of an earlier one, and must not, or has another target."""
    if not repeats:
        raise DataError(
            f"{row.where} names {shortened(row.path)} a second time, after {first.where}; remove one of the lines"
        )
    if targets.of(row) != target:
        raise DataError(
            f"{row.where} names {shortened(row.path)} with another target than {first.where}; remove one of the lines, or write all "
            "labels in one line (`data.task` multilabel)"
        )
