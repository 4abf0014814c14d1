"""What an image is to the pipeline: a size, and pixels that are decoded when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dist_train.errors import DataError

RGB = NDArray[np.uint8]
"""An image: uint8 [H, W, 3]."""

Box = tuple[int, int, int, int]
"""A part of an image: top, left, height and width in pixels."""


class BadImage(DataError):
    """The file exists, and its bytes are not a whole image. ``data.bad_images: skip`` allows a few."""


class Picture(Protocol):
    """An image that need not be decoded yet. A random crop asks for its part alone, which may cost less."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def pixels(self, box: Box | None = None) -> RGB:
        """The part in ``box``, or all of it, as a contiguous array of its own.

        Raises:
            BadImage: it is cut short, or damaged.
        """
        ...


Transform = Callable[[Picture, int, RGB], None]
"""From a picture of any size and the key of its random numbers into its place in a batch, uint8 [S, S, 3]."""


@dataclass(frozen=True)
class Decoded:
    """A picture whose pixels are there already."""

    image: RGB

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def pixels(self, box: Box | None = None) -> RGB:
        return self.image if box is None else part(self.image, box)


def part(image: RGB, box: Box) -> RGB:
    """The part of an image in ``box``, as an array of its own: that is resized faster."""
    top, left, height, width = box
    return np.ascontiguousarray(image[top : top + height, left : left + width])
