"""The classes or labels of a table, and the target of each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Findings, Target
from dist_train.data.formats.class_names import MISSING, Labels, composed, few, natural, same_names, shortened
from dist_train.data.formats.tables.numbers import numbers, plain_numbers
from dist_train.data.formats.tables.rows import Row, Table
from dist_train.errors import ConfigError, DataError


@dataclass(frozen=True)
class Targets:
    """The names of a table's outputs, and two ways from the table to targets.

    Attributes:
        of: returns the target of a row, or raises the error of a wrong one.
        column: returns the targets of all images, with None for those that need ``of``; and the places of these.
    """

    names: list[str]
    of: Callable[[Row], Target]
    column: Callable[[Table], tuple[list[Target | None], list[int]]]


def a_column_per_label(cfg: DataConfig) -> bool:
    return cfg.task == "multilabel" and len(cfg.csv.targets) > 1


def targets_of(cfg: DataConfig, table: Table, findings: Findings, known: tuple[str, ...] | None = None) -> Targets:
    """Return the targets of the data set.

    Args:
        table: of the training images, whose classes are those of the data set.
        known: the classes of a run, in their place.

    Raises:
        ConfigError, DataError: the table has no such classes.
    """
    columns = list(cfg.csv.targets)
    if cfg.task == "regression":
        return Targets(columns, lambda row: numbers(row, findings), _numbers_of)
    if a_column_per_label(cfg):
        return Targets(columns, lambda row: row.labels, lambda table: ([*table.labels], []))
    if len(columns) > 1:
        raise ConfigError(
            f"`data.csv.targets` ({', '.join(columns)}) names {len(columns)} columns, and one class per image needs one; "
            "set `data.task` to multilabel or regression"
        )
    separator = cfg.csv.label_separator if cfg.task == "multilabel" else None
    if known:
        return _labeller(known, separator, "the run")
    if cfg.classes:
        _all_used(cfg, table, separator)
        return _labeller(cfg.classes, separator, "`data.classes`")
    classes = _classes_of(table, separator, findings)
    if not classes:
        raise DataError(f"column {columns[0]} of {table.file} holds no label at all")
    return _labeller(classes, separator, "the training table")


def of_known_classes(table: Table, classes: Sequence[str], findings: Findings) -> Table:
    """Return the images of the run's classes, and note the names of the others."""
    labels = Labels(classes)
    column = table.fields[0]
    unknown = {text for text in dict.fromkeys(column) if labels.find(text) is None}
    if not unknown:
        return table
    count = sum(text in unknown for text in column)
    findings.notes.append(
        f"{count} images of classes that the run does not know are left out: {few(sorted(unknown, key=natural))}"
    )
    return table.where(text not in unknown for text in column)


def _all_used(cfg: DataConfig, table: Table, separator: str | None) -> None:
    """Raise an error if ``data.classes`` names a class without a training image."""
    used = {composed(name) for name in _first_texts(table, separator)}
    unused = [name for name in cfg.classes or () if composed(name) not in used]
    if unused:
        raise ConfigError(f"`data.classes` names {few(unused)}; no line of {cfg.csv.train} has this label")


def _classes_of(table: Table, separator: str | None, findings: Findings) -> list[str]:
    """Return the labels of the training table, sorted."""
    first = _first_texts(table, separator)
    if any(name.lower() in MISSING for name in first):
        for place in range(len(table)):
            _refuse_missing(table.row(place), separator, findings)
    for names in same_names(first):
        one, other = (table.row(table.fields[0].index(first[name])) for name in names[:2])
        findings.refuse(
            other.where,
            f"the label {shortened(names[1])!r} looks like that of line {one.line}, but has other characters (Unicode NFC "
            "and NFD); write one form in the whole table",
        )
    return sorted(first, key=natural)


def _refuse_missing(row: Row, separator: str | None, findings: Findings) -> None:
    for name in _names(row.fields[0], separator):
        if name.lower() in MISSING:
            findings.refuse(
                row.where,
                f"the label {name!r} stands for a missing value; remove the line, or list it in `data.classes` if it "
                "is the name of a class",
            )


def _first_texts(table: Table, separator: str | None) -> dict[str, str]:
    """Return the labels of a table, in its order, and the first text that has each."""
    (column,) = table.fields
    found: dict[str, str] = {}
    for text in dict.fromkeys(column):
        if not text and separator is None:
            raise _no_label(table.row(column.index(text)))
        for name in _names(text, separator):
            found.setdefault(name, text)
    return found


def _labeller(classes: Sequence[str], separator: str | None, source: str) -> Targets:
    labels = Labels(classes)

    def of(row: Row) -> Target:
        (text,), found = row.fields, []
        if not text and separator is None:
            raise _no_label(row)
        for name in _names(text, separator):
            label = labels.find(name)
            if label is None:
                raise DataError(f"{row.where} has class {shortened(name)!r}, which {source} does not have")
            found.append(label)
        return found[0] if separator is None else tuple(sorted({*found}))

    def column(table: Table) -> tuple[list[Target | None], list[int]]:
        (texts,) = table.fields
        known: dict[str, Target | None] = {}
        for text in dict.fromkeys(texts):
            try:
                known[text] = of(Row(table.file, 0, "", (text,)))
            except DataError:
                known[text] = None
        found = [*map(known.__getitem__, texts)]
        return found, _left(found) if None in known.values() else []

    return Targets([*classes], of, column)


def _names(text: str, separator: str | None) -> list[str]:
    """Return the classes in a text; there may be none where ``separator`` allows several."""
    return [text] if separator is None else [name.strip() for name in text.split(separator) if name.strip()]


def _no_label(row: Row) -> DataError:
    return DataError(f"{row.where} has no label: write one, or remove the line")


def _numbers_of(table: Table) -> tuple[list[Target | None], list[int]]:
    found: list[Target | None] = [*map(plain_numbers, zip(*table.fields, strict=True))]
    return found, _left(found)


def _left(targets: Sequence[Target | None]) -> list[int]:
    return [place for place, target in enumerate(targets) if target is None]
