"""What a data set consists of: names of images, targets and class names, found by one scan."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dist_train.config.choice_table import Task
from dist_train.config.choices import FORMATS
from dist_train.config.sections.data import DataConfig
from dist_train.config.user_code import function_of
from dist_train.data.decoding.picture import Picture
from dist_train.data.decoding.rules import DecodeRules
from dist_train.data.formats.base import Entry, Images, Listing
from dist_train.data.formats.dataset_objects import given_data_sets
from dist_train.data.formats.folders import IMAGE_SUFFIXES, image_classes
from dist_train.data.formats.images import FileImages, GivenImages
from dist_train.distributed.group import Dist
from dist_train.errors import DataError
from dist_train.seeding import fold_in

SplitName = Literal["train", "val"]


@dataclass(frozen=True)
class Split:
    """Images and their targets, in the order of the names.

    ``paths`` are bytes in one array: it is shared with loader processes for free, where a list of strings would
    be copied by reference counting. ``labels`` are int64 [N], or float32 [N, K] for multilabel and regression;
    ``sizes`` int64 [N], in bytes.
    """

    paths: NDArray[np.bytes_]
    labels: NDArray[Any]
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The name of image ``index``: its path below the root, or ``<split>/<number>`` in a data set object."""
        return os.fsdecode(self.paths[index])


@dataclass(frozen=True)
class DataIndex:
    """A data set: two splits, where their images are, the names of the outputs, and a fingerprint.

    A class label is an index into ``classes``; for multilabel and regression these name the columns of the targets.
    The fingerprint is a SHA-256 over every image's split, name, size in bytes and target (and over the pixels of
    sets that are held in memory). It does not depend on where the folder is, nor on times.
    """

    root: str
    images: Images
    task: Task
    classes: list[str]
    train: Split
    val: Split
    fingerprint: str

    def split(self, name: SplitName) -> Split:
        """Return a split by its name."""
        return self.train if name == "train" else self.val

    def opener(self, name: SplitName) -> Callable[[int], Picture]:
        """Return the function that opens an image of a split by its index."""
        split = self.split(name)
        return lambda number: self.images.open(split.name(number))

    def with_rules(self, rules: DecodeRules) -> "DataIndex":
        """Return the same data set, with images that are decoded by other rules."""
        return replace(self, images=self.images.with_rules(rules))

    @property
    def outputs(self) -> int:
        """Columns of the model's output."""
        return len(self.classes)


def read_index(cfg: DataConfig, group: Dist, given: tuple[Any, Any] | None = None) -> DataIndex:
    """Scan on rank 0, for every rank.

    Args:
        given: training and validation set given in code, in place of ``data.format``; every rank has them.

    Raises:
        ConfigError, DataError: see ``scan``.
    """
    if given is None:
        return group.from_main(lambda: scan(cfg))
    images = GivenImages("the data given", cfg.root, *given)
    found = group.from_main(lambda: replace(scan(cfg, images), images=FileImages(cfg.root)))  # the sets do not travel
    return replace(found, images=images)


def scan(cfg: DataConfig, given: GivenImages | None = None) -> DataIndex:
    """Read the folder, the tables or the data set object once.

    Raises:
        ConfigError, DataError: it is not there, or is not laid out as ``data.format`` says.
    """
    found: Listing = function_of(FORMATS, cfg.format)(cfg) if given is None else given_data_sets(cfg, given)
    train, val = found.train, found.val
    if val is None:
        train, val = _held_out(cfg, train)
    elif cfg.val_fraction is not None:
        raise DataError(
            f"`data.val_fraction` ({cfg.val_fraction}): `data.root` ({cfg.root}) has a validation set already; "
            "remove the key, or the set"
        )
    for name, entries in (("training", train), ("validation", val)):
        if train and not entries and found.val is None:
            raise DataError(
                f"`data.val_fraction` ({cfg.val_fraction}): no class of `data.root` ({cfg.root}) has the two images that it "
                "takes to give one away"
            )
        if not entries:
            raise DataError(f"`data.root` ({cfg.root}) has no {name} images ({', '.join(IMAGE_SUFFIXES)})")
    if cfg.task == "classification" and len(found.classes) < 2:
        raise DataError(
            f"`data.root` ({cfg.root}) holds a single class ({found.classes[0]}), so that there is nothing to tell apart; "
            "is it a folder too high or too low?"
        )
    val = _spread(val, cfg.max_val_images)
    fingerprint = _fingerprint(cfg, found, train, val)
    return DataIndex(cfg.root, found.images, cfg.task, found.classes, _split(train), _split(val), fingerprint)


def _held_out(cfg: DataConfig, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Take ``data.val_fraction`` of the images of each class away from the training set.

    Which ones follows from ``data.val_seed`` and the names alone: an image that is added or removed moves few
    others. A class of two images or more gives at least one, and keeps at least one. Without single classes to go by
    (multilabel, regression) the whole set is treated as one class.
    """
    assert cfg.val_fraction is not None
    groups: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry[2] if isinstance(entry[2], int) else 0].append(entry)
    train: list[Entry] = []
    val: list[Entry] = []
    for group in groups.values():
        group.sort(key=lambda entry: fold_in(cfg.val_seed, "val", entry[0]))
        count = min(max(1, round(cfg.val_fraction * len(group))), len(group) - 1)
        val += group[:count]
        train += group[count:]
    order = {entry[0]: place for place, entry in enumerate(entries)}
    return sorted(train, key=lambda entry: order[entry[0]]), sorted(val, key=lambda entry: order[entry[0]])


def _spread(entries: list[Entry], most: int | None) -> list[Entry]:
    """At most ``most`` entries, at even distances."""
    if most is None or most >= len(entries):
        return entries
    return [entries[place * len(entries) // most] for place in range(most)]


def _fingerprint(cfg: DataConfig, found: Listing, train: list[Entry], val: list[Entry]) -> str:
    digest = hashlib.sha256(f"{cfg.task}\0{found.content}\0{found.classes}\n".encode())
    for split, entries in (("train", train), ("val", val)):
        for name, size, target in entries:
            label = found.classes[target] if isinstance(target, int) else target
            digest.update(f"{split}\0{name}\0{size}\0{label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _split(entries: list[Entry]) -> Split:
    paths = np.array([os.fsencode(name) for name, _, _ in entries], dtype=np.bytes_)
    targets = [target for _, _, target in entries]
    labels = np.array(targets, dtype=np.int64 if isinstance(targets[0], int) else np.float32)
    return Split(paths, labels, np.array([size for _, size, _ in entries], dtype=np.int64))


def labelled_folder(root: Path, classes: list[str]) -> DataIndex:
    """Index ``<class>/...`` below ``root`` for an evaluation: both splits hold all of it.

    Raises:
        DataError: there is no such folder, or it has other classes than ``classes``, or no images.
    """
    listing = image_classes(root, classes)
    if not listing.train:
        raise DataError(f"{root} has no images ({', '.join(IMAGE_SUFFIXES)})")
    split, content = _split(listing.train), hashlib.sha256(repr(listing.train).encode()).hexdigest()
    return DataIndex(str(root), listing.images, "classification", classes, split, split, content)
