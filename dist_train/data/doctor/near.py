"""Pairs of images that show the same: re-encoded, resized, slightly cropped.

Each image has a difference hash of 64 bits (dHash: N. Krawetz, 2013) of the whole, and some of cut parts, since the whole of a
cropped copy is a part of the original. A table of the hashes' bands finds candidates without comparing all pairs; the small
pictures of candidates are compared by their pixels.
"""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Of a small picture, in pixels."""
CUTS = (1.0, 0.95, 0.9)
"""Sides of the parts, as a share of the whole; each smaller one lies in the middle and in the four corners."""
BANDS, BAND_BITS = 4, 16
MOST_BITS = 14
"""Bits in which the hashes of candidates may differ. The bands find every pair up to 7, and most of the others."""
MOST_DIFFERENCE = 0.5
"""Root mean square difference of two pictures, as a share of their standard deviation. Both limits are measured:
benchmarks/results/doctor.md."""
COMPARED = 16
"""Side of the pictures that are compared."""
LEAST_SPREAD = 4.0
"""Standard deviation of grey levels below which a picture says too little."""
MOST_IN_A_BUCKET = 1000
BATCH, CHUNK = 1 << 20, 8192
"""Candidates and pictures that are in memory at once."""

Pairs = NDArray[np.int64]
"""[P, 2]: places of images."""


def near_pairs(small_N: NDArray[np.uint8]) -> Pairs:
    """Return the pairs of images that show the same, each once, the smaller place first, in ascending order.

    Args:
        small_N: grey squares, uint8 [N, 32, 32].
    """
    clear = _clear(small_N)
    if len(clear) < 2:
        return np.zeros((0, 2), np.int64)
    pictures = small_N[clear]
    whole = _hashes(pictures, WINDOWS[0])
    tables = [_Table(whole, band) for band in range(BANDS)]
    found = [_of_window(pictures, whole, tables, window) for window in WINDOWS]
    pairs = np.sort(clear[np.concatenate(found)], axis=1)
    return np.unique(pairs, axis=0)


def crowded(small_N: NDArray[np.uint8]) -> int:
    """Return how many images have hashes of which every band is that of more images than are looked at."""
    hashes = _hashes(small_N[_clear(small_N)], WINDOWS[0])
    full = [np.bincount(values)[values] > MOST_IN_A_BUCKET for values in (_band(hashes, band) for band in range(BANDS))]
    return int(np.logical_and.reduce(full).sum())


def _clear(small_N: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.array([place for place, picture in enumerate(small_N) if picture.std() >= LEAST_SPREAD], np.int64)


Window = tuple[float, float, float]
"""Top and left corner and side of a part, as shares of the whole."""


def _windows() -> Iterator[Window]:
    yield 0.0, 0.0, 1.0
    for side in CUTS[1:]:
        rest = 1 - side
        yield rest / 2, rest / 2, side
        for top, left in product((0.0, rest), repeat=2):
            yield top, left, side


WINDOWS = tuple(_windows())


def _shrunk(small_N: NDArray[np.uint8], window: Window, rows: int, columns: int) -> NDArray[np.float32]:
    """Return the means of the cells of a part of each picture, float32 [N, rows, columns]."""
    top, left, side = window
    down, across = _weights(top, side, rows), _weights(left, side, columns)
    parts = [np.matmul(np.matmul(down, some.astype(np.float32)), across.T) for some in _chunks(small_N)]
    return np.asarray(np.concatenate(parts), np.float32)


def _chunks(small_N: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the pictures in parts, so that not all of them are floats at once."""
    return np.array_split(small_N, len(small_N) // CHUNK + 1)


def _weights(start: float, side: float, cells: int) -> NDArray[np.float32]:
    """Return the weight of each of the 32 pixels in each cell between ``start`` and ``start + side``: float32 [cells, 32]."""
    edges = (start + side * np.arange(cells + 1) / cells) * SIDE
    pixels = np.arange(SIDE)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.maximum(overlap, 0)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), np.float32)


def _hashes(small_N: NDArray[np.uint8], window: Window) -> NDArray[np.uint64]:
    """Return the difference hash of a part of each picture: a bit for each pair of neighbours in a row."""
    cells = _shrunk(small_N, window, 8, 9)
    bits = (cells[:, :, 1:] > cells[:, :, :-1]).reshape(len(small_N), 64)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.int64]:
    return ((hashes >> np.uint64(BAND_BITS * band)) & np.uint64(2**BAND_BITS - 1)).astype(np.int64)


class _Table:
    """The images by one band of their hashes."""

    def __init__(self, hashes: NDArray[np.uint64], band: int) -> None:
        values = _band(hashes, band)
        self._band, self._order = band, np.argsort(values, kind="stable")
        self._starts = np.searchsorted(values[self._order], np.arange(2**BAND_BITS + 1))

    def candidates(self, hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
        """Yield (image of the table, image of ``hashes``) whose bands differ in at most one bit."""
        wanted = _band(hashes, self._band)
        for flip in (0, *(1 << bit for bit in range(BAND_BITS))):
            first, last = self._starts[wanted ^ flip], self._starts[(wanted ^ flip) + 1]
            counts = np.minimum(last - first, MOST_IN_A_BUCKET)
            for begin, end in _parts(counts):
                yield self._listed(first[begin:end], counts[begin:end], begin)

    def _listed(self, first: NDArray[np.int64], counts: NDArray[np.int64], begin: int) -> Pairs:
        queries = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.stack([self._order[first[queries] + within], queries + begin], axis=1)


def _parts(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield parts of the queries with about ``BATCH`` candidates each, which bounds the memory."""
    numbers = np.cumsum(counts) // BATCH
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(counts)]
    yield from pairwise(edges)


def _of_window(pictures: NDArray[np.uint8], whole: NDArray[np.uint64], tables: list[_Table], window: Window) -> Pairs:
    """Return the pairs in which the whole of the first is the part ``window`` of the second."""
    parts = _hashes(pictures, window)
    close = [_close(pairs, whole, parts) for table in tables for pairs in table.candidates(parts)]
    pairs = np.unique(np.concatenate(close), axis=0)
    ours, theirs = _shrunk(pictures, WINDOWS[0], COMPARED, COMPARED), _shrunk(pictures, window, COMPARED, COMPARED)
    same = [_same(ours[some[:, 0]], theirs[some[:, 1]]) for some in np.array_split(pairs, len(pairs) // 65536 + 1)]
    return np.asarray(pairs[np.concatenate(same)], np.int64)


def _close(pairs: Pairs, whole: NDArray[np.uint64], parts: NDArray[np.uint64]) -> Pairs:
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.asarray(pairs[np.bitwise_count(whole[pairs[:, 0]] ^ parts[pairs[:, 1]]) <= MOST_BITS], np.int64)


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    difference = np.sqrt(((one - other) ** 2).mean(axis=(1, 2)))
    spread = np.minimum(one.std(axis=(1, 2)), other.std(axis=(1, 2)))
    return np.asarray(difference <= MOST_DIFFERENCE * spread)
