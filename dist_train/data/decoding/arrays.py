"""Images that a data set of one's own returns as arrays or tensors, in place of PIL images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_train.data.decoding.deep import DeepImage
from dist_train.errors import DataError

SHAPES = {1: "[H, W] or [H, W, 1]", 3: "[H, W], [H, W, 1] or [H, W, 3]"}


def as_pixels(name: str, image: Any, channels: int = 3) -> NDArray[np.uint8] | DeepImage:
    """Return uint8 [H, W] or [H, W, C]; or, of an image with other values than 0 to 255, the values.

    Args:
        name: of the image, for the message.
        channels: `data.channels`.

    Raises:
        DataError: the shape or the type of the array could mean several things, or nothing.
    """
    shapes = SHAPES.get(channels, f"[H, W, {channels}]")
    accepted = f"it must be a PIL image, or an array {shapes} of bool, uint8, whole numbers or floats"
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # of a list of several lengths, or a tensor on a GPU
        raise DataError(f"image {name} is a {type(image).__name__}, and not an array ({error}); {accepted}") from None
    fault = _fault(array, channels)
    if fault is not None:
        what = f"{type(image).__name__} {getattr(image, 'dtype', '')} {list(array.shape)}"
        raise DataError(f"image {name} is a {what}; {accepted}, without transforms (`augment` describes them){fault}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    return array if array.dtype == np.uint8 else DeepImage(array)


def _fault(array: NDArray[Any], channels: int) -> str | None:
    """Return what is wrong with an array; an empty text where the general rule says it all."""
    if array.dtype.kind not in "buif":
        return ""
    if array.size == 0:
        return "; it has no pixels"
    fitting = {1, 3} if channels == 3 else {channels}
    if (array.ndim == 2 and 1 in fitting) or (array.ndim == 3 and array.shape[2] in fitting):
        return None
    if channels != 3:
        return f"; `data.channels` is {channels}"
    if array.ndim == 3 and array.shape[2] in (2, 4):
        return (
            "; its last channel may be transparency or a measurement: for transparency return a PIL image of mode "
            f"{'RGBA' if array.shape[2] == 4 else 'LA'}, else three channels"
        )
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "; its channels come first: permute it to [H, W, C]"
    return ""
