"""The part of an image that is decoded at a half, a quarter or an eighth of its size (``data.fast_decode``)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dist_train.config.types import Size
    from dist_train.data.decoding.picture import Box

SHRINKS = (8, 4, 2)
"""What libjpeg can divide height and width by, faster than to decode whole."""


def how_much_smaller(box: "Box", least: "Size") -> int:
    """Return 8, 4, 2 or 1: the part in ``box`` divided by it is at least of size ``least``."""
    return next(
        (shrink for shrink in SHRINKS if all(side >= shrink * s for side, s in zip(box[2:], least, strict=True))), 1
    )


def smaller_box(box: "Box", shrink: int, size: "Size") -> "Box":
    """Return the box in an image of ``size``, whose height and width were divided by ``shrink``; to the nearest pixel."""
    if shrink == 1:
        return box
    height, width = (max(1, round(side / shrink)) for side in box[2:])
    top, left = (
        min(round(edge / shrink), there - side)
        for edge, there, side in zip(box[:2], size, (height, width), strict=True)
    )
    return top, left, height, width
