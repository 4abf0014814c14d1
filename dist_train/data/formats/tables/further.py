"""Further columns of the training table: the group of an image, the weight of its loss, how often an epoch sees it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dist_train.data.formats.class_names import shortened
from dist_train.data.formats.tables.rows import Row, Table
from dist_train.data.selection.sampling import SAMPLING
from dist_train.errors import DataError

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig

GROUP, WEIGHT = "group", "weight"
"""What a column is for, besides ``SAMPLING``."""

Columns = dict[str, dict[str, str]]
"""What a column is for -> name of an image -> its text."""


def column_names(cfg: "DataConfig") -> dict[str, str]:
    """Return the columns of the training table beside path and targets: what it is for -> its name."""
    named = {GROUP: cfg.csv.group, WEIGHT: cfg.csv.weight, SAMPLING: cfg.sampling.column if cfg.sampling else None}
    return {purpose: name for purpose, name in named.items() if name is not None}


def columns_of(cfg: "DataConfig", names: Sequence[str], table: Table) -> Columns:
    """Return these columns by the names of the images.

    Args:
        names: of the images in the table, in its order.

    Raises:
        DataError: a value is missing, or a line repeats an image with another value.
    """
    wanted = column_names(cfg)
    found: Columns = {
        purpose: dict(zip(names, texts, strict=True)) for purpose, texts in zip(wanted, table.further, strict=True)
    }
    if all(len(texts) == len(names) and _plain(purpose, texts.values()) for purpose, texts in found.items()):
        return found
    return _of_rows(wanted, names, map(table.row, range(len(table))))


def _plain(purpose: str, texts: Iterable[str]) -> bool:
    different = {*texts}
    return "" not in different and (purpose == GROUP or all(_number(text) is not None for text in different))


def _of_rows(wanted: dict[str, str], names: Iterable[str], rows: Iterable[Row]) -> Columns:
    found: Columns = {purpose: {} for purpose in wanted}
    for name, row in zip(names, rows, strict=True):
        for (purpose, column), text in zip(wanted.items(), row.further, strict=True):
            if not text:
                raise DataError(f"{row.where} has no value in the column {column}; fill it in")
            if found[purpose].setdefault(name, text) != text:
                raise DataError(
                    f"{row.where} has {shortened(text)} in the column {column}, and an earlier line of the same image has "
                    f"{shortened(found[purpose][name])}; write the same value in both"
                )
            if purpose != GROUP and _number(text) is None:
                raise DataError(
                    f"{row.where} has {shortened(text)!r} in the column {column}, which must be a number of at least 0"
                )
    return found


def _number(text: str) -> float | None:
    """Return a finite number of at least 0; None for other texts."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
