"""An image as the pipeline sees it: a size, and pixels that are decoded when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dist_train.config.types import Size
from dist_train.errors import DataError

RGB = NDArray[np.uint8]
"""An image: uint8 [H, W, 3]."""

Pixels = NDArray[Any]
"""An image: uint8 or uint16 [H, W, C], by ``data.bits`` and ``data.channels``; else ``RGB``."""

DTYPES: dict[int, type[np.uint8 | np.uint16]] = {8: np.uint8, 16: np.uint16}
"""By ``data.bits``."""

Box = tuple[int, int, int, int]
"""A part of an image: top, left, height and width in pixels."""

Colour = tuple[int, ...]
"""One value per channel, 0 to 255; with 16 bits to 65535."""


class BadImage(DataError):
    """The file exists, and its bytes are not a whole image. ``data.bad_images: skip`` allows a few."""


class Picture(Protocol):
    """An image that may not be decoded yet. A random crop asks for its part only, which can cost less."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def pixels(self, box: Box | None = None, least: Size | None = None) -> Pixels:
        """Return the part in ``box``, or all of it: a new contiguous array.

        Args:
            least: the height and width to which the part is resized next: with ``DecodeRules.fast`` it may come smaller,
                but not smaller than that.

        Raises:
            BadImage: the file is truncated or damaged.
        """
        ...


Transform = Callable[[Picture, int, Pixels], None]
"""(picture of any size, key of its random numbers, its place in a batch [H, W, C]): writes to that place."""


@dataclass(frozen=True)
class Decoded:
    """A picture that is decoded already."""

    image: Pixels

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def pixels(self, box: Box | None = None, least: Size | None = None) -> Pixels:
        return self.image if box is None else part(self.image, box)


def part(image: Pixels, box: Box) -> Pixels:
    """Return the part of an image in ``box``, copied: a contiguous array is resized faster."""
    top, left, height, width = box
    return np.ascontiguousarray(image[top : top + height, left : left + width])
