"""Images that a CSV file names, for ``pack``: read as ``data.format: csv`` reads it, with the class as a folder."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.config.yaml_text import apply_override
from dist_train.data.formats.base import HEAD, Entry, Only, with_suffix
from dist_train.data.formats.class_names import ClassFolders
from dist_train.data.formats.csv_tables import csv_tables
from dist_train.data.formats.images import FileImages
from dist_train.data.shards.archives import TRAIN, split_of
from dist_train.data.stored.file_facts import file_sizes
from dist_train.errors import ConfigError, DataError

READS = ("data.csv.", "data.test=", "data.classes=")
"""What of a config says how tables are read."""


class CsvSource:
    """The images of a training table, and of the tables of the other splits if they are given; see ``pack.Source``.

    A table alone has the split that its name says; or none, and ``data.val_fraction`` takes the validation set from its images.

    Args:
        overrides: ``data.csv.KEY=VALUE`` and ``data.test=TABLE``.

    Raises:
        ConfigError: one of them is wrong.
    """

    def __init__(self, table: Path, overrides: Sequence[str]) -> None:
        self.left_aside = 0
        self._cfg = _config(table, overrides)
        self._files, self._classes = FileImages(str(table.parent)), ClassFolders()
        self._path_of: dict[str, str] = {}

    def images(self) -> Iterator[tuple[str, int]]:
        """Yield name and size of each image.

        Raises:
            ConfigError, DataError: a table cannot be read, or a line has a fault.
        """
        found = csv_tables(self._cfg)
        faults = found.findings.refusals()
        splits = {
            TRAIN if found.val is not None else split_of(self._cfg.csv.train): found.train,
            "val": found.val or [],
        }
        if self._cfg.test is not None:
            test = csv_tables(self._cfg, Only("test", tuple(found.classes)))
            faults += test.findings.refusals()
            print(*test.findings.notes, sep="\n", end="\n" * bool(test.findings.notes), file=sys.stderr)
            splits["test"] = test.val or []
        if faults:
            raise DataError("\n".join(faults))
        for split, entries in splits.items():
            yield from self._named(split, entries, found.classes)

    def read(self, name: str) -> bytes:
        """Return the bytes of an image."""
        return self._files.content(self._path_of[name])

    def _named(self, split: str, entries: Sequence[Entry], classes: Sequence[str]) -> Iterator[tuple[str, int]]:
        once = {path: label for path, _, label in entries}
        self.left_aside += len(entries) - len(once)
        for (path, label), size in zip(once.items(), file_sizes(self._files.root, [*once]), strict=True):
            assert isinstance(label, int)
            last = with_suffix(path, partial(self._files.content, path, HEAD))
            name = self._classes.name(split, classes[label], last)
            if name in self._path_of:
                folder, _, last = name.rpartition("/")
                name = f"{folder}/{len(self._path_of):08d}-{last}"
            self._path_of[name] = path
            yield name, size


def _config(table: Path, overrides: Sequence[str]) -> DataConfig:
    csv: dict[str, Any] = {"train": table.name, "val": None}
    data: dict[str, Any] = {"root": str(table.parent), "format": "csv", "csv": csv}
    tree: dict[str, Any] = {"run": {"name": "pack"}, "model": {"name": "resnet18"}, "optim": {"lr": 0.1}, "data": data}
    for override in overrides:
        if not override.startswith(READS):
            raise ConfigError(f"{override!r} says nothing about a CSV file; give {' or '.join(READS)}")
        apply_override(tree, override)
    if csv["val"] is None:
        data["val_fraction"] = 0.5  # so that all images are those of one table
    cfg = parse_config(tree | {"train": {"global_batch": 1}}).data
    if len(cfg.csv.targets) != 1:
        raise ConfigError(f"`data.csv.targets` ({', '.join(cfg.csv.targets)}): an archive has one class for each image")
    return cfg
