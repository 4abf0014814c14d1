"""Mean and standard deviation of the channels of images, from exact sums of whole numbers."""

import math

import numpy as np

from dist_train.data.decoding.picture import Pixels
from dist_train.errors import DataError


class ChannelSums:
    """Sums over the pixels of images. They are Python's integers: exact, in any order, for any number of images."""

    def __init__(self, channels: int) -> None:
        self._pixels, self._sums, self._squares = 0, [0] * channels, [0] * channels

    def add(self, image: Pixels) -> None:
        """Add an image, uint8 or uint16 [H, W, C]."""
        values_NC = image.reshape(-1, image.shape[2]).astype(np.uint64)
        self._pixels += len(values_NC)
        self._sums = [total + int(more) for total, more in zip(self._sums, values_NC.sum(axis=0), strict=True)]
        more_squares = np.square(values_NC).sum(axis=0)
        self._squares = [total + int(more) for total, more in zip(self._squares, more_squares, strict=True)]

    def mean_and_std(self, top: int) -> tuple[list[float], list[float]]:
        """Return the mean and the standard deviation over all pixels, per channel.

        Args:
            top: the level that is 1.0, 255 or 65535.

        Raises:
            DataError: there are no pixels, or a channel has one value everywhere.
        """
        if not self._pixels:
            raise DataError("cannot compute a mean: none of the training images can be decoded")
        means = [total / self._pixels / top for total in self._sums]
        stds = [
            math.sqrt(self._pixels * squares - total**2) / self._pixels / top
            for total, squares in zip(self._sums, self._squares, strict=True)
        ]
        for channel, (mean, std) in enumerate(zip(means, stds, strict=True)):
            if std == 0:
                raise DataError(
                    f"channel {channel} is {mean:.4g} in every pixel of the training images: it has no standard deviation; "
                    "check the files and `data.value_range`, or leave the channel out"
                )
        return means, stds
