"""Decoded images in one file, for ``augment.device``: shared by the ranks of a node, and read by all at memory's speed.

The file (``data/decoding/pixel_file``) appears by one rename, so that it is whole or absent; its digest is checked at every
start, and it is built again when the data set's fingerprint is another. Only this user can read or write it. The run folder
keeps the digest too: a cache that was replaced since the run began is built again.
"""

import contextlib
import hashlib
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.decoding.picture import RGB, BadImage
from dist_train.data.decoding.pixel_file import KEY, Cache, end_of_file, opened
from dist_train.data.decoding.rules import DEFAULT_RULES, DecodeRules
from dist_train.data.index import DataIndex
from dist_train.data.split import Split, SplitName
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError, DataError
from dist_train.system.files import atomic_write, fingerprint, read_json, write_json
from dist_train.system.private_folder import private_folder, temporary_folder
from dist_train.system.progress import advance, shown

log = logging.getLogger(__name__)

COMPARED = 7
"""Parts of a split at whose ends an image is compared with its file at each start."""

NoteBad = Callable[[SplitName, int, BadImage], None]
"""Counts an image that cannot be decoded, and raises ``DataError`` if it is one too many."""


def open_cache(cfg: DataConfig, index: DataIndex, group: Dist, note_bad: NoteBad, record: Path | None = None) -> Cache:
    """Open the cache of a data set on every rank; one process on each node checks it, and builds it if need be.

    Args:
        record: the file in the run folder that keeps the digest.

    Raises:
        ConfigError: there is no room for it, or it belongs to another user.
        DataError: the images are not of one size, or cannot be decoded.
    """
    path = cache_path(cfg, index.images.rules)
    with group.together():
        known = read_json(record, default={}) if record else {}
        expected = known.get("sha256") if isinstance(known, dict) else None
        if group.local_rank == 0:
            if cfg.cache is None:
                private_folder(path.parent, KEY)
            if not _is_whole(path, index, expected):
                _build(path, index, note_bad)
    with group.together():
        cache = _opened(path, index)
        if cache is None:
            raise DataError(f"{path} was replaced by another run's cache just now; give each run its own `data.cache`")
        if record and group.is_main and cache.sha256 != expected:
            if expected:
                log.warning("the images decode to other pixels than when this run began; it continues with these")
            write_json(record, {"sha256": cache.sha256})
    return cache


def check_cache(cfg: DataConfig, index: DataIndex) -> str:
    """What ``--check`` tells of the cache: where it is, or will be, and how large.

    Raises:
        ConfigError: there is no room for it.
    """
    path = cache_path(cfg, index.images.rules)
    if _opened(path, index) is not None:
        return f"cache: {path}, built already"
    needed = _needed(index, _first(index)[1].shape)
    free = _room(path, needed)
    return f"cache: about {needed / 1e9:.1f} GB will be written to {path}, {free / 1e9:.1f} GB free"


def cache_path(cfg: DataConfig, rules: DecodeRules = DEFAULT_RULES) -> Path:
    """Return the file of a data set: the same for all runs that read the same images by the same rules."""
    folder = Path(cfg.cache) if cfg.cache else temporary_folder()
    parts = cfg.model_dump(include={"format", "name", "task", "csv", "val_fraction", "val_seed"}, mode="json")
    # Keys that came later: a config without them has the file that it always had.
    parts |= cfg.model_dump(include={"fold", "train_fraction", "shots"}, exclude_none=True, mode="json")
    del parts["csv"]["weight"]
    if parts["csv"]["group"] is None:
        del parts["csv"]["group"]
    if rules.value_range is not None:
        parts["value_range"] = rules.value_range
    root = Path(cfg.root) if is_remote(cfg.root) else Path(cfg.root).resolve()
    return folder / f"{root.name}-{fingerprint([str(root), parts])[:12]}.pixels"


def _opened(path: Path, index: DataIndex) -> Cache | None:
    return opened(path, index.fingerprint, len(index.train))


def _is_whole(path: Path, index: DataIndex, expected: str | None) -> bool:
    """Whether the cache is there, of this data set, and holds what was written to it.

    Args:
        expected: the digest with which the run began; None if it begins now.
    """
    cache = _opened(path, index)
    if cache is None:
        return False
    if cache.digest() != cache.sha256:
        log.warning("%s is damaged and will be built again", path)
        return False
    if expected not in (None, cache.sha256):
        log.warning("%s has other pixels than when this run began and will be built again", path)
        return False
    if not _agrees(cache, index):
        log.warning("%s has other images than the data set and will be built again", path)
        return False
    return True


def _agrees(cache: Cache, index: DataIndex) -> bool:
    """Whether a few images are still those of the data set: a fingerprint knows no pixels, of objects no sizes either."""
    splits: tuple[tuple[SplitName, Split], ...] = (("train", index.train), ("val", index.val))
    for name, split in splits:
        read, last = cache.reader(name), len(split) - 1
        for number in {part * last // COMPARED for part in range(COMPARED + 1)}:
            with contextlib.suppress(BadImage):
                if not np.array_equal(index.images.open(split.name(number)).pixels(), read(number).pixels()):
                    return False
    return True


def _build(path: Path, index: DataIndex, note_bad: NoteBad) -> None:
    name, first = _first(index)
    _room(path, _needed(index, first.shape))
    log.info("decoding %d images into %s", len(index.train) + len(index.val), path)
    _remove_leftovers(path)
    try:
        count = len(index.train) + len(index.val)
        with shown(f"decoding into {path}", "images", count), atomic_write(path, mode=0o600) as file:
            file.write(_write_pixels(file, index, note_bad, name, first.shape))
    except OSError as error:
        raise ConfigError(f"`data.cache`: cannot write {path}: {error.strerror}; choose another folder") from None


def _first(index: DataIndex) -> tuple[str, RGB]:
    """The first training image that can be decoded, which has the size that all must have, and its name."""
    for number in range(len(index.train)):
        with contextlib.suppress(BadImage):
            name = index.train.name(number)
            return name, index.images.open(name).pixels()
    raise DataError(f"`data.root` ({index.root}): none of the training images can be decoded")


def _write_pixels(file: BinaryIO, index: DataIndex, note_bad: NoteBad, first: str, shape: tuple[int, ...]) -> bytes:
    """Write all images of both splits, and return the end of the file."""
    digest, faults, place = hashlib.sha256(), dict[int, str](), 0
    splits: tuple[tuple[SplitName, Split], ...] = (("train", index.train), ("val", index.val))
    for name, split in splits:
        for number in range(len(split)):
            try:
                pixels = index.images.open(split.name(number)).pixels()
            except BadImage as error:
                note_bad(name, number, error)
                faults[place] = str(error)
                pixels = np.zeros(shape, dtype=np.uint8)
            if pixels.shape != shape:
                raise _other_size(split.name(number), pixels, first, shape)
            digest.update(pixels.data)
            file.write(pixels.data)
            place += 1
            advance()
    return end_of_file((place, *shape), index.fingerprint, digest.hexdigest(), faults)


def _other_size(name: str, pixels: RGB, first: str, shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"`augment.device` (true) needs images of one size: {name} has {pixels.shape[0]} x {pixels.shape[1]} pixels and "
        f"{first} {shape[0]} x {shape[1]}; resize the files to one size, or set it to false"
    )


def _needed(index: DataIndex, shape: tuple[int, ...]) -> int:
    return (len(index.train) + len(index.val)) * math.prod(shape)


def _room(path: Path, needed: int) -> int:
    """Free bytes where the cache will be.

    Raises:
        ConfigError: they are too few.
    """
    folder = next(parent for parent in path.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"`data.cache`: the decoded images need {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free; "
            "choose another folder, or set `augment.device` to false"
        )
    return free


def _remove_leftovers(path: Path) -> None:
    """Parts that killed runs left an hour ago and more; younger ones may be another's that is being written."""
    for part in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):  # another run may remove it too, or it may be another user's
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()
