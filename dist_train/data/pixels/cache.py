"""Decoded images in one file, for ``augment.device``: shared by the ranks of a node, and read by all at memory's speed.

The file (``pixel_file``) appears by one rename, so that it is whole or absent. All ranks of a node build it (``build``), and rebuild
it when the data set's fingerprint changes. A start reads its digests only; a rank compares each image with its digest when it first
reads it (``images``). Only this user can read or write it. The run folder keeps the digest of all images: a cache that was replaced
since the run began is rebuilt.
"""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.decoding.picture import BadImage
from dist_train.data.decoding.rules import DEFAULT_RULES, DecodeRules
from dist_train.data.index import DataIndex
from dist_train.data.pixels.build import NoteBad, build
from dist_train.data.pixels.images import Cache
from dist_train.data.pixels.originals import Originals
from dist_train.data.pixels.part_file import PartFile, bytes_written, part_of, remove_abandoned
from dist_train.data.pixels.pixel_file import KEY, Layout, PixelFile, Unusable, opened
from dist_train.data.split import SplitName
from dist_train.data.workers import loader_processes
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError, DataError
from dist_train.system.files import fingerprint, read_json, write_json
from dist_train.system.private_folder import private_folder, temporary_folder

log = logging.getLogger(__name__)

COMPARED = 7
"""Parts of a split at whose ends an image is compared with its file at each start."""

TRIES = 2
"""Most builds at one start: the first may continue a killed one, some of whose images have been replaced since."""

DIGEST = "blake3"
"""Key in the record of a run. Older versions wrote ``sha256``, of other bytes."""


def open_cache(cfg: DataConfig, index: DataIndex, group: Dist, note_bad: NoteBad, record: Path | None = None) -> Cache:
    """Open the cache of a data set on every rank; if need be, all ranks build it.

    Args:
        record: the file in the run folder that keeps the digest.

    Raises:
        ConfigError: the disk has too little room for it, or it belongs to another user.
        DataError: the images are not of one size, or cannot be decoded.
    """
    path = cache_path(cfg, index.images.rules)
    with group.together():
        expected = read_json(record, default={}).get(DIGEST) if record else None
    for attempt in range(TRIES):
        with group.together():
            if group.local_rank == 0:
                _prepare(cfg, path, index, None if attempt else expected)
        with group.together():
            built = _build_if_missing(cfg, path, index, group, note_bad)
        if not any(group.gather_objects(built)):
            break
    with group.together():
        file = _opened(path, index)
        if file is None:
            raise DataError(
                f"another run has just replaced {path} by its own cache; give each run its own `data.cache`"
            )
        cache = Cache.of(file, Originals(index))
        if group.local_rank == 0:
            _note_bad(cache, note_bad)
        if record and group.is_main and file.digest != expected:
            _record_digest(record, file.digest, expected)
    return cache


def _record_digest(record: Path, digest: str, expected: str | None) -> None:
    if expected:
        log.warning("the images decode to other pixels than when this run began; it continues with these")
    write_json(record, {DIGEST: digest})


def check_cache(cfg: DataConfig, index: DataIndex) -> str:
    """Return what ``--check`` prints about the cache: where it is, or will be, and how large.

    Raises:
        ConfigError: the disk has too little room for it.
    """
    path = cache_path(cfg, index.images.rules)
    if _opened(path, index) is not None:
        return f"cache: {path}, built already"
    _, layout = Originals(index).first()
    needed, free = _room(path, layout, index)
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


def _opened(path: Path, index: DataIndex) -> PixelFile | None:
    with suppress(Unusable):
        return opened(path, index.fingerprint)
    return None


def _prepare(cfg: DataConfig, path: Path, index: DataIndex, expected: str | None) -> None:
    """Remove a cache that cannot be used, and check that there is room for a new one."""
    if cfg.cache is None:
        private_folder(path.parent, KEY)
    if os.path.lexists(path):
        try:
            _check(opened(path, index.fingerprint), index, expected)
            return
        except Unusable as reason:
            log.warning("%s %s and will be built again", path, reason)
            with suppress(OSError):  # where it stays, the new one cannot take its place, which is an error
                path.unlink()
    _, layout = Originals(index).first()
    _room(path, layout, index)
    remove_abandoned(path, part_of(path, layout, index.fingerprint))
    begun = bytes_written(path, layout, index.fingerprint)
    there = f"; an unfinished build has written {begun / 1e9:.2f} GB of it" if begun else ""
    log.info("decoding %d images into %s%s", layout.shape[0], path, there)


def _check(file: PixelFile, index: DataIndex, expected: str | None) -> None:
    """Raise ``Unusable`` if a whole file has other images than the data set.

    Args:
        expected: the digest with which the run began; None if it begins now.
    """
    if expected not in (None, file.digest):
        raise Unusable("has other pixels than when this run began")
    if not _agrees(Cache.of(file, Originals(index)), index):
        raise Unusable("has other images than the data set")


def _agrees(cache: Cache, index: DataIndex) -> bool:
    """Return whether a few images equal those of the data set: its fingerprint has no pixels, and for an object no sizes."""
    splits: tuple[SplitName, ...] = ("train", "val")
    for split in splits:
        read, last = cache.reader(split), len(index.split(split)) - 1
        for number in {part * last // COMPARED for part in range(COMPARED + 1)}:
            try:
                if not np.array_equal(index.opener(split)(number).pixels(), read(number).pixels()):
                    return False
            except BadImage:
                continue
            except DataError:  # damaged, and decoded again it is another
                return False
    return True


def _build_if_missing(cfg: DataConfig, path: Path, index: DataIndex, group: Dist, note_bad: NoteBad) -> bool:
    """Build the cache together with the other ranks, if there is none. Return whether there was none."""
    if _opened(path, index) is not None:
        return False
    originals = Originals(index)
    first, layout = originals.first()
    part = PartFile(path, layout, index.fingerprint)
    if _opened(path, index) is not None:  # another rank, or run, has finished it meanwhile
        part.remove()
        return True
    build(part, originals, loader_processes(cfg), note_bad, first)
    if group.local_rank == 0:
        part.finish()
    return True


def _note_bad(cache: Cache, note_bad: NoteBad) -> None:
    """Count all images that could not be decoded, since this rank has decoded only some images, or none."""
    for place in cache.file.bad():
        words = f"{cache.originals.name(place)} could not be decoded when {cache.file.path} was built"
        note_bad(*cache.originals.whose(place), BadImage(words))


def _room(path: Path, layout: Layout, index: DataIndex) -> tuple[int, int]:
    """Return how many bytes must be written for the cache, and how many are free.

    Raises:
        ConfigError: too few are free.
    """
    needed = max(0, layout.end_at - bytes_written(path, layout, index.fingerprint))
    folder = next(parent for parent in path.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"`data.cache`: the decoded images need {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free; "
            "choose another folder, or set `augment.device` to false"
        )
    return needed, free
