"""What a data set consists of, found by one scan: names of images, targets and names of the classes."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.config.choice_table import Task
from dist_train.config.choices import FORMATS
from dist_train.config.sections.data import DataConfig
from dist_train.config.user_code import function_of
from dist_train.data.decoding.picture import Picture
from dist_train.data.decoding.rules import DecodeRules
from dist_train.data.formats.base import UNASKED, Entries, Entry, Held, Images, Listing, Only, suffixes_of
from dist_train.data.formats.class_names import few
from dist_train.data.formats.tables.further import GROUP, WEIGHT, Columns
from dist_train.data.label_sets import LabelSets
from dist_train.data.report.notes import notes_on
from dist_train.data.selection.excluded import without_excluded
from dist_train.data.selection.held_out import held_out
from dist_train.data.selection.sampling import sampling_of
from dist_train.data.selection.subset import subset
from dist_train.data.split import Split, SplitName, encoded
from dist_train.data.stored.file_facts import file_sizes
from dist_train.errors import DataError
from dist_train.system.machine.memory import uncollected
from dist_train.system.progress import shown

ASKED_AT_ONCE = 16_384
"""A scan of at most so many files always asks for their sizes: that takes 40 ms, and on a slow disk half a second."""

NAMES_ONLY = "-names"
"""The end of a fingerprint without sizes."""

LINES = 256
"""Of the text behind a fingerprint that are made at a time; of multilabel with 1,000 labels they are 1.3 MB."""


@dataclass(frozen=True)
class DataIndex:
    """A data set: two splits, where their images are, the names of the outputs, and a fingerprint.

    A class label is an index into ``classes``; for multilabel and regression these name the columns of the targets.
    The fingerprint is a SHA-256 over every image's split, name, size in bytes and target (and over the pixels of
    sets that are held in memory). It does not depend on the place of the folder, nor on times. For many files
    whose sizes the scan has not asked for, it has no sizes, and ends in ``NAMES_ONLY``.

    Attributes:
        notes: what a user should know.
        refused: why a run must not begin with these data; a run of an older version may be resumed with them.
    """

    root: str
    images: Images
    task: Task
    classes: list[str]
    train: Split
    val: Split
    fingerprint: str
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def split(self, name: SplitName) -> Split:
        """Return a split by its name."""
        return self.train if name == "train" else self.val

    @property
    def has_sizes(self) -> bool:
        return self.train.has_sizes and self.val.has_sizes

    def opener(self, name: SplitName) -> Callable[[int], Picture]:
        """Return the function that opens an image of a split by its index."""
        split = self.split(name)
        return lambda number: self.images.open(split.name(number))

    def with_rules(self, rules: DecodeRules) -> "DataIndex":
        """Return the same data set, with images that are decoded by other rules."""
        return replace(self, images=self.images.with_rules(rules))

    @property
    def outputs(self) -> int:
        """Return the number of columns of the model's output."""
        return len(self.classes)


@uncollected()
def scan(cfg: DataConfig, given: Listing | None = None, strict: bool = True, sized: bool = True) -> DataIndex:
    """Read the folder, the tables or the data set object once.

    Args:
        given: data sets given in code, in place of ``data.format``.
        strict: raise what the index would have in ``refused``. Without it the caller does so, if a run begins.
        sized: ask for the size of each file. Without it only those of a small data set are asked for.

    Raises:
        ConfigError, DataError: the data set is missing, or not laid out as ``data.format`` says.
    """
    found = _sized(cfg, _read(cfg, strict) if given is None else given, sized)
    found = without_excluded(cfg, found, whole=True)
    train, val = found.train, found.val
    if val is None:
        train, val = held_out(cfg, train, found.columns.get(GROUP, {}))
    elif cfg.draws_validation:
        key, value = ("fold", cfg.fold) if cfg.fold else ("val_fraction", cfg.val_fraction)
        raise DataError(
            f"`data.{key}` ({value}): `data.root` ({cfg.root}) has a validation set already; remove the key, or the set"
        )
    _not_empty(cfg, train, val, found.val is None)
    train = subset(cfg, train, found.classes, found.findings)
    if cfg.task == "classification" and len(found.classes) < 2:
        raise DataError(
            f"`data.root` ({cfg.root}) holds a single class ({found.classes[0]}), and a model learns to tell two or more "
            "apart; is it a folder too high or too low?"
        )
    return _index(cfg, found, train, _spread(val, cfg.max_val_images))


def evaluation_index(cfg: DataConfig, split: Held, classes: Sequence[str], strict: bool = True) -> DataIndex:
    """Read the images that a run is evaluated on: as the split ``val``, labelled with the run's own classes.

    The training split is empty. Images of other classes are left out, and ``notes`` name these classes.

    Args:
        split: the validation set, or the test set, which training never reads.
        classes: those of the run.
        strict: as in ``scan``.

    Raises:
        ConfigError, DataError: the split is missing, or not laid out as ``data.format`` says.
    """
    found = _sized(cfg, _read(cfg, strict, Only(split, tuple(classes))), wanted=True)
    if split == "val":
        found = without_excluded(cfg, found, whole=False)
    val = found.val
    if val is None:
        val = held_out(cfg, found.train, found.columns.get(GROUP, {}))[1]
    if not val:
        raise DataError(f"`data.root` ({cfg.root}) has no {split} images of the classes {few(classes)}")
    return _index(cfg, found, [], _spread(val, cfg.max_val_images if split == "val" else None))


def _read(cfg: DataConfig, strict: bool, only: Only | None = None) -> Listing:
    with shown(f"scanning `data.root` ({cfg.root})", "files"):
        found: Listing = function_of(FORMATS, cfg.format)(cfg, *([only] if only else []))
    if strict and (refused := found.findings.refusals()):
        raise DataError("\n".join(refused))
    return found


def _sized(cfg: DataConfig, found: Listing, wanted: bool) -> Listing:
    """Return the listing with the sizes of its files, if they are ``wanted`` or few."""
    total = len(found.train) + len(found.val or [])
    if total == 0 or not (wanted or total <= ASKED_AT_ONCE) or (found.train or found.val or [])[0][1] != UNASKED:
        return found
    train, val = Entries.of(found.train), Entries.of(found.val or [])
    sizes = file_sizes(cfg.root, train.names + val.names)
    held = None if found.val is None else replace(val, sizes=sizes[len(train) :])
    return replace(found, train=replace(train, sizes=sizes[: len(train)]), val=held)


def with_sizes(index: DataIndex) -> DataIndex:
    """Return the index with the sizes of its files.

    Raises:
        DataError: one of them is missing.
    """
    if index.has_sizes:
        return index
    with shown(f"asking for the sizes of the files of `data.root` ({index.root})", "files"):
        train, val = (
            replace(split, sizes=np.array(file_sizes(index.root, list(map(split.name, range(len(split))))), np.int64))
            for split in (index.train, index.val)
        )
    return replace(index, train=train, val=val)


def _not_empty(cfg: DataConfig, train: Sequence[Entry], val: Sequence[Entry], drawn: bool) -> None:
    """Raise an error for a split without images; ``drawn``: the validation set is a part of the training set."""
    if train and not val and drawn and cfg.fold is None:
        raise DataError(
            f"`data.val_fraction` ({cfg.val_fraction}): no class of `data.root` ({cfg.root}) has the two images that it "
            "takes to give one away"
        )
    for name, entries in (("training", train), ("validation", val)):
        if not entries:
            raise DataError(f"`data.root` ({cfg.root}) has no {name} images ({', '.join(suffixes_of(cfg))})")


@uncollected()
def _index(cfg: DataConfig, found: Listing, train: Sequence[Entry], val: Sequence[Entry]) -> DataIndex:
    columns = {} if not train else {key: values for key, values in found.columns.items() if key != GROUP}
    splits = _split(cfg, found.classes, train, columns), _split(cfg, found.classes, val)
    notes = list(found.findings.notes)
    if train:
        if sampling := sampling_of(cfg.sampling, splits[0]):
            notes.append(f"`data.sampling`: {sampling.describe()}")
        if (weights := splits[0].columns.get(WEIGHT)) is not None:
            notes.append(
                f"`data.csv.weight`: weights {weights.min():g} to {weights.max():g}, mean {weights.mean():.3g}; the loss and its "
                "gradient grow with the mean"
            )
        labels = splits[0].labels
        numbers = np.array(Entries.of(train).targets) if cfg.task == "regression" else labels
        notes += notes_on(cfg.task, _label_separator(cfg), found.classes, numbers, splits[1].labels)
    fingerprint = _fingerprint(cfg, found, {"train": Entries.of(train), "val": Entries.of(val)}, columns)
    refused = tuple(found.findings.refusals())
    return DataIndex(cfg.root, found.images, cfg.task, found.classes, *splits, fingerprint, tuple(notes), refused)


def _label_separator(cfg: DataConfig) -> str | None:
    """Return what separates the labels in a column that holds all of an image; None where no column does."""
    joined = cfg.task == "multilabel" and cfg.format == "csv" and len(cfg.csv.targets) == 1
    return cfg.csv.label_separator if joined else None


def _spread(entries: Sequence[Entry], most: int | None) -> Sequence[Entry]:
    """Return at most ``most`` entries, at even distances."""
    if most is None or most >= len(entries):
        return entries
    return [entries[place * len(entries) // most] for place in range(most)]


def _fingerprint(cfg: DataConfig, found: Listing, splits: dict[SplitName, Entries], columns: Columns) -> str:
    digest = hashlib.sha256(f"{cfg.task}\0{found.content}\0{found.classes}\n".encode())
    for split, entries in splits.items():
        for start in range(0, len(entries), LINES):
            text = _lines(split, entries[start : start + LINES], partial(_target_texts, cfg, found.classes))
            digest.update(text.encode(errors="surrogateescape"))
    for purpose, texts in columns.items():
        for name in splits["train"].names:
            digest.update(f"{purpose}\0{name}\0{texts[name]}\n".encode(errors="surrogateescape"))
    return digest.hexdigest() + ("" if all(entries.sizes or not entries for entries in splits.values()) else NAMES_ONLY)


def _lines(split: SplitName, some: Entries, texts_of: Callable[[Sequence[Any]], Iterable[str]]) -> str:
    """Return the text of some entries that becomes a part of the fingerprint."""
    if some.sizes:
        rows = zip(some.names, some.sizes, texts_of(some.targets), strict=True)
        return "".join([f"{split}\0{name}\0{size}\0{target}\n" for name, size, target in rows])
    first = some.targets[0]  # names are sorted: most neighbours have the same class
    if isinstance(first, int) and some.targets.count(first) == len(some):
        (target,) = texts_of([first])
        return f"{split}\0" + f"\0{target}\n{split}\0".join(some.names) + f"\0{target}\n"
    return "\n".join(map("\0".join, zip(repeat(split), some.names, texts_of(some.targets)))) + "\n"


def _target_texts(cfg: DataConfig, classes: Sequence[str], targets: Sequence[Any]) -> Iterable[str]:
    if cfg.task == "multilabel":
        return (text.decode() for text in LabelSets.of(targets, len(classes)).texts(tuple))
    return map(str if cfg.task == "regression" else classes.__getitem__, targets)


def _split(cfg: DataConfig, classes: Sequence[str], entries: Sequence[Entry], columns: Columns | None = None) -> Split:
    in_columns = Entries.of(entries)
    paths = encoded(in_columns.names)
    targets: list[Any] = in_columns.targets
    labels: NDArray[Any] | LabelSets
    if cfg.task == "multilabel":
        labels = LabelSets.of(targets, len(classes))
    else:
        labels = np.array(targets, dtype=np.float32 if cfg.task == "regression" and targets else np.int64)
    sizes = np.array(in_columns.sizes, dtype=np.int64)
    numbers = {
        purpose: np.array([float(texts[name]) for name in in_columns.names])
        for purpose, texts in (columns or {}).items()
    }
    return Split(paths, labels, sizes, numbers)
