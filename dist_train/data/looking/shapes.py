"""Sizes and shapes of images, and how much of them the crop cuts away."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dist_train.data.augment.frame import Frame
from dist_train.data.decoding.picture import BadImage
from dist_train.data.index import DataIndex

MOST = 1000
"""Training images whose sizes are read, at even distances."""


@dataclass(frozen=True)
class Shapes:
    """The shapes of a sample of the training images.

    Attributes:
        sizes_N2: height and width in pixels, int64 [N, 2].
        cut_N: the share of each image that is cut away, float64 [N], 0 to 1.
        unread: images of the sample that cannot be opened.
        total: training images.
    """

    sizes_N2: NDArray[np.int64]
    cut_N: NDArray[np.float64]
    unread: int
    total: int

    @property
    def ratios_N(self) -> NDArray[np.float64]:
        """Return width by height."""
        return self.sizes_N2[:, 1] / self.sizes_N2[:, 0]


def shapes_of(index: DataIndex, frame: Frame) -> Shapes:
    """Open a sample of the training images, and compute what ``frame`` cuts away from each."""
    count = len(index.train)
    wanted = min(MOST, count)
    names = (index.train.name(number * count // wanted) for number in range(wanted))
    sizes = [size for name in names if (size := _size(index, name))]
    cut = np.array([frame.cut_away(*size) for size in sizes], dtype=np.float64)
    return Shapes(np.array(sizes, dtype=np.int64).reshape(-1, 2), cut, wanted - len(sizes), count)


def describe(shapes: Shapes) -> Iterator[str]:
    """Yield lines: smallest, median and largest of sizes and ratios, and of the share that is cut away."""
    looked = len(shapes.sizes_N2)
    if shapes.unread:
        yield f"note: {shapes.unread} of {shapes.unread + looked} training images cannot be opened"
    if not looked:
        return
    areas = np.argsort(shapes.sizes_N2.prod(axis=1), kind="stable")[[0, looked // 2, -1]]
    small, middle, large = (f"{width} x {height}" for height, width in shapes.sizes_N2[areas].tolist())
    sampled = f" (a sample of {shapes.total:,})" if looked + shapes.unread < shapes.total else ""
    yield f"sizes of {looked:,} training images{sampled}, width x height: {small} to {large}, median {middle}"
    yield f"width by height: {shapes.ratios_N.min():.2f} to {shapes.ratios_N.max():.2f}, median {np.median(shapes.ratios_N):.2f}"
    yield (
        f"an evaluation cuts {shapes.cut_N.min():.0%} to {shapes.cut_N.max():.0%} of an image away, median "
        f"{np.median(shapes.cut_N):.0%}"
    )


def _size(index: DataIndex, name: str) -> tuple[int, int] | None:
    try:
        return index.images.open(name).size
    except BadImage:
        return None
