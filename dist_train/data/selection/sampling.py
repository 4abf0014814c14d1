"""How often an epoch sees each training image: ``data.sampling``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dist_train.errors import DataError
from dist_train.seeding import fold_in

if TYPE_CHECKING:
    from dist_train.config.sections.data import SamplingConfig
    from dist_train.data.split import Split

SAMPLING = "sampling"
"""The key of ``Split.columns`` under which the column of `data.sampling.column` is."""

Order = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The images of an epoch in their order, int64 [N], and for each how often the epoch has had the same image before, int64 [N]."""


@dataclass(frozen=True)
class Sampling:
    """How an epoch of N places draws its images, with replacement.

    Attributes:
        times_N: how often an epoch sees each image on average, float64 [N]; their sum is N.
        kinds_N: what an epoch sees in exact proportion, but for rounding: the class of each image, int64 [N].
    """

    times_N: NDArray[np.float64]
    kinds_N: NDArray[np.int64]

    def order(self, seed: int, epoch: int) -> Order:
        """Return the order of one epoch, a pure function of ``seed`` and ``epoch``.

        The draw is systematic (Madow, 1949): N points at equal distances, from a random start, over the images side by side, each
        as wide as its ``times_N``. So an image appears its mean number of times, rounded down or up, and a class as well.
        """
        random = np.random.default_rng(fold_in(seed, "order", epoch))
        shuffled = random.permutation(len(self.times_N))
        shuffled = shuffled[np.argsort(self.kinds_N[shuffled], kind="stable")]
        ends = np.cumsum(self.times_N[shuffled])
        points = (np.arange(len(ends)) + random.random()) * (ends[-1] / len(ends))
        places = np.searchsorted(ends, np.minimum(points, np.nextafter(ends[-1], 0)), side="right")
        images = shuffled[places][random.permutation(len(ends))]
        return images, _before(images)

    def describe(self) -> str:
        """Return how often an epoch sees the rarest and the most frequent image."""
        seen = self.times_N[self.times_N > 0]
        never = len(self.times_N) - len(seen)
        text = f"an epoch sees an image {seen.min():.3g} to {seen.max():.3g} times on average"
        return f"{text}; {never} images with weight 0 never" if never else text


def sampling_of(cfg: "SamplingConfig | None", train: "Split") -> Sampling | None:
    """Return how the training images are drawn; None if each epoch has each image once.

    Raises:
        DataError: all images have the weight 0.
    """
    if cfg is None:
        return None
    if cfg.name == "column":
        weights, kinds = train.columns[SAMPLING], np.zeros(len(train), np.int64)
        if not weights.any():
            raise DataError(
                f"`data.sampling` ({cfg.column}): all training images have the weight 0; give some a larger one"
            )
    else:
        kinds = train.labels[:]
        images = np.bincount(kinds)[kinds].astype(np.float64)
        weights = 1 / images if cfg.name == "balanced" else 1 / np.sqrt(images)
    return Sampling(weights * (len(weights) / weights.sum()), kinds)


def _before(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each place how many places before it have the same image."""
    by_image = np.argsort(images, kind="stable")
    ordered = images[by_image]
    before = np.empty_like(images)
    before[by_image] = np.arange(len(images)) - np.searchsorted(ordered, ordered)
    return before
