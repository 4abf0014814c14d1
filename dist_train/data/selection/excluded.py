"""Images that a table names are left out of training and validation: ``data.exclude``."""

import csv
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dist_train.data.formats.base import Entries, Entry, Listing
from dist_train.data.formats.class_names import few
from dist_train.data.stored.survey import note
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.sections.data import DataConfig

IMAGE, EXCLUDE = "image", "exclude"
"""Columns of the table."""
WORDS = {"yes": True, "no": False}


def without_excluded(cfg: "DataConfig", found: Listing, whole: bool) -> Listing:
    """Return the listing without the images of the table, and note how many they were.

    Args:
        whole: the listing has all images, so that a name which is not among them deserves a note.

    Raises:
        ConfigError: the table cannot be read, or has no column ``image``.
    """
    if cfg.exclude is None:
        return found
    names = excluded_names(cfg.exclude)
    gone = Counter(name for split in (found.train, found.val or []) for name, _, _ in split if name in names)
    notes = [f"`data.exclude` ({cfg.exclude}) leaves out {gone.total():,} images"]
    if whole and (unknown := sorted(names - gone.keys())):
        notes.append(f"{len(unknown):,} names in `data.exclude` ({cfg.exclude}) are not in the data: {few(unknown)}")
    found.findings.notes.extend(notes)
    return replace(found, train=_kept(found.train, gone), val=None if found.val is None else _kept(found.val, gone))


def excluded_names(path: str) -> set[str]:
    """Return the names in the column ``image``, but for rows with ``no`` in the column ``exclude``, if there is one.

    Raises:
        ConfigError: the table cannot be read, or is not such a table.
    """
    note(path)
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if IMAGE not in (rows.fieldnames or ()):
                raise ConfigError(f"`data.exclude` ({path}) has no column `{IMAGE}` in its first line")
            return {row[IMAGE] for row in rows if row[IMAGE] and _wanted(path, rows.line_num, row.get(EXCLUDE))}
    except OSError as error:
        raise ConfigError(
            f"`data.exclude` ({path}) cannot be read: {error.strerror}; `look --doctor` writes such a table, and null leaves "
            "no image out"
        ) from None
    except csv.Error as error:
        raise ConfigError(f"`data.exclude` ({path}) is not a CSV file: {error}") from None


def _wanted(path: str, line: int, word: str | None) -> bool:
    if word is None:
        return True
    if word.strip().lower() not in WORDS:
        raise ConfigError(
            f"`data.exclude` ({path}), line {line}: `{EXCLUDE}` is {word!r}; use one of: {', '.join(WORDS)}"
        )
    return WORDS[word.strip().lower()]


def _kept(entries: Sequence[Entry], gone: Container[str]) -> Entries:
    return Entries.of(entries).where(name not in gone for name, _, _ in entries)
