"""Validation images that are training images too: a score on them says nothing about new images."""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dist_train.config.schema import Config
from dist_train.data.decoding.picture import BadImage
from dist_train.data.formats.base import UNASKED
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex
from dist_train.data.shards.shard_images import ShardImages
from dist_train.data.split import Split
from dist_train.errors import DataError
from dist_train.system.progress import advance

MOST_IMAGES = 20_000
"""Of a larger validation set a sample of this size is looked at."""

MOST_SECONDS = 10.0

HEAD = 4096
"""Bytes at the beginning of a file that are compared before the whole."""

THREADS = 8
"""They hide the latency of a network file system."""
CHUNK = 256


@dataclass(frozen=True)
class Overlap:
    """Which validation images are training images too.

    Attributes:
        pairs: (validation image, training image), by name.
        looked_at: validation images that were compared, of ``total``.
        compared: share of the training images of the same sizes that were read in time.
    """

    pairs: list[tuple[str, str]]
    looked_at: int
    total: int
    compared: float

    @property
    def share(self) -> float:
        return len(self.pairs) / max(1, self.looked_at)


def check_overlap(cfg: Config, index: DataIndex) -> str:
    """Return what to tell of the overlap of the splits; an empty string if there is none. For rank 0.

    Raises:
        DataError: it is larger than ``data.max_overlap``.
    """
    found = find_overlap(index)
    told, most = describe(found), cfg.data.max_overlap
    if most is not None and found.share > most:
        raise DataError(
            f"{told}: more than `data.max_overlap` ({most:g}) allows, so that the score would be too good; remove them from "
            "one split, or set `data.max_overlap=null`"
        )
    return told


def describe(found: Overlap) -> str:
    """Return a sentence about an overlap; an empty string if all was compared and there is none."""
    if not found.pairs and found.compared == 1:
        return ""
    sampled = f" (a sample of {found.total:,})" if found.looked_at < found.total else ""
    partly = f"; there was time for {found.compared:.0%} of the training images" if found.compared < 1 else ""
    example = f", such as {found.pairs[0][0]} = {found.pairs[0][1]}" if found.pairs else ""
    return f"{len(found.pairs):,} of {found.looked_at:,} validation images{sampled} are training images too{example}{partly}"


def find_overlap(index: DataIndex, seconds: float = MOST_SECONDS) -> Overlap:
    """Compare the splits by path, and by size, first bytes, and whole content.

    Data set objects have no files to compare: nothing is found there.

    Args:
        seconds: after so long, what was found until then is returned.
    """
    places = _sample(len(index.val))
    if not isinstance(index.images, FileImages | ShardImages):
        return Overlap([], len(places), len(index.val), 1.0)
    search = _Search(index, time.monotonic() + seconds)
    pairs = search.pairs(places)
    return Overlap(pairs, len(places), len(index.val), search.compared)


def _sample(count: int) -> list[int]:
    if count <= MOST_IMAGES:
        return list(range(count))
    return sorted(np.random.default_rng(0).choice(count, MOST_IMAGES, replace=False).tolist())


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return UNASKED


class _Search:
    """One comparison of the splits of an index, until ``deadline`` (seconds of time.monotonic)."""

    def __init__(self, index: DataIndex, deadline: float) -> None:
        assert isinstance(index.images, FileImages | ShardImages)
        self._images, self._train, self._val, self._deadline = index.images, index.train, index.val, deadline
        self.compared, self._looked_at = 1.0, 0

    def pairs(self, places: list[int]) -> list[tuple[str, str]]:
        val, train = self._val, self._train
        candidates = np.arange(len(train))
        if train.has_sizes and val.has_sizes:
            sizes = val.sizes[places]
            candidates = np.flatnonzero(np.isin(train.sizes, sizes))
            places = [place for place, known in zip(places, np.isin(sizes, train.sizes), strict=True) if known]
        candidates = np.random.default_rng(0).permutation(candidates)  # a fair part of them, if the time ends
        twins: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
        for place, size, head in self._read(val, places):
            twins[size, head].append(place)
        wanted = frozenset(size for size, _ in twins)
        found: dict[int, int] = {}
        for place, size, head in self._read(train, candidates.tolist(), wanted):
            for twin in twins.get((size, head), ()):
                if twin not in found and self._equal(val.name(twin), train.name(place)):
                    found[twin] = place
        self.compared = self._looked_at / len(candidates) if len(candidates) else 1.0
        return [(val.name(twin), train.name(place)) for twin, place in sorted(found.items())]

    def _read(
        self, split: Split, places: Sequence[int], wanted: frozenset[int] | None = None
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield place, size and the digest of the first bytes of each image until the deadline. Count images in ``_looked_at``.

        Args:
            wanted: images of other sizes are left out; None takes all.
        """
        self._looked_at = 0

        def facts(chunk: Sequence[int]) -> list[tuple[int, int, bytes] | None]:
            in_time = (place for place in chunk if time.monotonic() <= self._deadline)
            return [self._facts(split, place, wanted) for place in in_time]

        with ThreadPoolExecutor(THREADS) as pool:
            for found in pool.map(facts, [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]):
                self._looked_at += len(found)
                yield from (each for each in found if each is not None)

    def _facts(self, split: Split, place: int, wanted: frozenset[int] | None) -> tuple[int, int, bytes] | None:
        """Return place, size and the digest of the first bytes of an image; None for one of another size than wanted."""
        name = split.name(place)
        size = int(split.sizes[place]) if split.has_sizes else _size_of(os.path.join(self._images.root, name))
        if wanted is not None and size not in wanted:
            return None
        return place, size, self._digest(name, HEAD)

    def _digest(self, name: str, length: int | None = None) -> bytes:
        """Return the digest of the first bytes of a file, or of all; an empty one for a file that cannot be read."""
        advance()
        try:
            return hashlib.blake2b(self._images.content(name, length)).digest()
        except (DataError, BadImage):
            return b""

    def _equal(self, one: str, other: str) -> bool:
        if os.path.normpath(one) == os.path.normpath(other):
            return True
        if time.monotonic() > self._deadline:
            return False
        digest = self._digest(one)
        return bool(digest) and digest == self._digest(other)
