"""The index of a data set on every rank, from its stored scan or from a new one."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dist_train import __version__
from dist_train.config.sections.data import DataConfig
from dist_train.config.types import is_remote
from dist_train.data.formats.dataset_objects import given_data_sets
from dist_train.data.formats.images import FileImages, GivenImages
from dist_train.data.index import ASKED_AT_ONCE, NAMES_ONLY, DataIndex, scan
from dist_train.data.shards.shard_images import ShardImages
from dist_train.data.split import SplitName
from dist_train.data.stored import shared_scan
from dist_train.data.stored.scan_file import FORMAT, StoredScan, read_scan, write_scan
from dist_train.data.stored.survey import Stamp, first_changed, surveyed
from dist_train.distributed.group import Dist
from dist_train.system.files import fingerprint
from dist_train.system.progress import shown

log = logging.getLogger(__name__)

SAMPLE = 16_384
"""Files whose sizes and times are compared; of a smaller data set all."""

NOT_OF_THE_SCAN = {
    "image_size", "mean", "std", "value_range", "max_pixels", "fast_decode", "workers", "prefetch", "pin_memory", "persistent_workers",
    "cache", "stage", "bad_images", "max_bad_share", "max_overlap", "timeout_s",
}  # fmt: skip
"""Keys of ``data`` that do not decide what a scan finds. A key that is missing here costs a scan when it changes."""


def read_index(
    cfg: DataConfig,
    group: Dist,
    given: tuple[Any, Any] | None = None,
    strict: bool = True,
    kept: Path | None = None,
    sized: bool = True,
) -> DataIndex:
    """Scan on rank 0, for every rank.

    Args:
        sized: see ``scan``; for a scan that is kept.
        given: training and validation set given in code, in place of ``data.format``; every rank has them.
        strict: see ``scan``.
        kept: the file of a run folder in which the scan is kept, so that the next start need not scan.

    Raises:
        ConfigError, DataError: see ``scan``.
    """
    if given is None:
        return (
            _kept_for_all(cfg, group, kept, strict, sized)
            if kept
            else group.from_main(lambda: scan(cfg, strict=strict))
        )
    images = GivenImages("the data given", cfg.root, *given)
    # The sets do not travel.
    found = group.from_main(
        lambda: replace(scan(cfg, given_data_sets(cfg, images), strict), images=FileImages(cfg.root))
    )
    return replace(found, images=images)


def _kept_for_all(cfg: DataConfig, group: Dist, kept: Path, strict: bool, sized: bool) -> DataIndex:
    """Send the index of rank 0 to all, or, if it is large, its fingerprint: then they read the file."""
    of_main: list[DataIndex] = []

    def work() -> DataIndex | str:
        index = kept_or_scanned(cfg, kept, strict, sized)
        of_main.append(index)
        large = group.world_size > 1 and kept.is_file() and kept.stat().st_size >= shared_scan.LARGE
        return index.fingerprint if large else index

    def read(path: Path) -> DataIndex | None:
        stored = read_scan(path, mapped=True)
        same = stored and (stored.source, stored.index.fingerprint) == (_source(cfg, strict), found)
        return stored.index if stored and same else None

    found = group.from_main(work)
    if isinstance(found, DataIndex):
        return found
    index = shared_scan.shared(group, kept, read)
    if index is None:
        log.info("data: not every rank can read %s: each rank gets a copy of the index", kept)
        return group.from_main(lambda: of_main[0])
    return index


def kept_or_scanned(cfg: DataConfig, path: Path, strict: bool = True, sized: bool = True) -> DataIndex:
    """Return the index of a data set from the scan at ``path`` if nothing has changed since; else scan, and keep that.

    Whether something has changed is asked of all folders and tables, and of at most ``SAMPLE`` files, if their sizes and times are
    known.

    Args:
        strict, sized: see ``scan``.
    """
    source = _source(cfg, strict)
    kept = read_scan(path)
    if kept is None and path.exists():
        log.warning("the scan kept in %s is damaged, or of another version: scanning again", path)
    if kept is not None and kept.source == source and _suits(kept.index, sized):
        changed = _first_changed(kept)
        if not changed:
            log.info("data: %s has not changed since it was scanned", cfg.root)
            return kept.index
        log.info("data: %s has changed since %s was scanned: scanning again", changed, cfg.root)
    with surveyed() as survey:
        index = scan(cfg, strict=strict, sized=sized)
    # An object of a data set must be opened anyway. A run has its folder from its lock on.
    if isinstance(index.images, FileImages | ShardImages) and path.parent.is_dir():
        _keep(path, StoredScan.of(source, index, survey))
    return index


def _suits(index: DataIndex, sized: bool) -> bool:
    """Return whether the fingerprint of a kept scan is that of ``scan(sized=sized)``: with sizes, or without."""
    few = len(index.train) + len(index.val) <= ASKED_AT_ONCE
    return few or index.fingerprint.endswith(NAMES_ONLY) != sized


def _source(cfg: DataConfig, strict: bool) -> str:
    keys = cfg.model_dump(mode="json", exclude=NOT_OF_THE_SCAN)
    root = cfg.root if is_remote(cfg.root) else os.path.realpath(cfg.root)
    return fingerprint([FORMAT, __version__, root, keys, strict])


def _first_changed(kept: StoredScan) -> str:
    with shown(f"comparing {kept.index.root} with its scan", "files and folders"):
        return first_changed([*kept.places.items(), *_sample(kept)])


def _sample(kept: StoredScan) -> Iterator[tuple[str, Stamp]]:
    """Yield the paths and stamps of some images, the same each time."""
    images, index = kept.index.images, kept.index
    if not isinstance(images, FileImages) or not index.has_sizes:  # archives are among the places
        return
    total, first = len(index.train) + len(index.val), len(index.train)
    places = np.arange(total)
    if total > SAMPLE:
        places = np.sort(np.random.default_rng(0).choice(total, SAMPLE, replace=False))
    for place in places.tolist():
        name: SplitName
        name, number = ("train", place) if place < first else ("val", place - first)
        split = index.split(name)
        yield (
            os.path.join(images.root, split.name(number)),
            (int(kept.changed_ns[name][number]), int(split.sizes[number])),
        )


def _keep(path: Path, found: StoredScan) -> None:
    try:
        write_scan(path, found)
    except OSError as error:
        log.warning("cannot keep the scan of the data in %s (%s): the next start scans again", path, error.strerror)
