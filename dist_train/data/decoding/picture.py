"""An image as the pipeline sees it: a size, and pixels that are decoded when they are asked for."""

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


Colour = tuple[int, int, int]
"""RGB, 0 to 255."""


class BadImage(DataError):
    """The file exists, and its bytes are not a whole image. ``data.bad_images: skip`` allows a few."""


class Picture(Protocol):
    """An image that may not be decoded yet. A random crop asks for its part only, which can cost less."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def pixels(self, box: Box | None = None) -> RGB:
        """Return the part in ``box``, or all of it: a new contiguous array, uint8 [H, W, 3].

        Raises:
            BadImage: the file is truncated or damaged.
        """
        ...


Transform = Callable[[Picture, int, RGB], None]
"""(picture of any size, key of its random numbers, its place in a batch uint8 [S, S, 3]): writes to that place."""


@dataclass(frozen=True)
class Decoded:
    """A picture that is decoded already."""

    image: RGB

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def pixels(self, box: Box | None = None) -> RGB:
        return self.image if box is None else part(self.image, box)


def part(image: RGB, box: Box) -> RGB:
    """Return the part of an image in ``box``, copied: a contiguous array is resized faster."""
    top, left, height, width = box
    return np.ascontiguousarray(image[top : top + height, left : left + width])
