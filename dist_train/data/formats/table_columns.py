"""Further columns of the training table: the group of an image, the weight of its loss, how often an epoch sees it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dist_train.data.formats.class_names import shortened
from dist_train.errors import DataError

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig
    from dist_train.data.formats.table_file import Row

GROUP = "group"

Columns = dict[str, dict[str, str]]
"""What a column is for (``group``, ``weight``, ``sampling``) -> name of an image -> its text."""


def column_names(cfg: "DataConfig") -> dict[str, str]:
    """Return the columns of the training table beside path and targets: what it is for -> its name."""
    named = {GROUP: cfg.csv.group, "weight": cfg.csv.weight, "sampling": cfg.sampling.column if cfg.sampling else None}
    return {purpose: name for purpose, name in named.items() if name is not None}


def columns_of(cfg: "DataConfig", named_rows: "Iterable[tuple[str, Row]]") -> Columns:
    """Return these columns by the names of the images.

    Raises:
        DataError: a value is missing, or a line repeats an image with another value.
    """
    wanted = column_names(cfg)
    found: Columns = {purpose: {} for purpose in wanted}
    if not wanted:
        return found
    for name, row in named_rows:
        for (purpose, column), text in zip(wanted.items(), row.further, strict=True):
            if not text:
                raise DataError(f"{row.where} has no value in the column {column}; fill it in")
            if found[purpose].setdefault(name, text) != text:
                raise DataError(
                    f"{row.where} has {shortened(text)} in the column {column}, and an earlier line of the same image has "
                    f"{shortened(found[purpose][name])}; write the same value in both"
                )
            if purpose != GROUP:
                _weight(row, column, text)
    return found


def _weight(row: "Row", column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise DataError(
            f"{row.where} has {shortened(text)!r} in the column {column}, which must be a number of at least 0"
        )
    return value
