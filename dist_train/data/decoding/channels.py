"""Images of another number of channels than RGB's three, or with 16 bits per channel (``data.channels``, ``data.bits``).

Pillow reads files of 1, 3 and 4 channels; ``.npy`` files and arrays of a data set hold any number. Nothing is invented: a file
without transparency has no fourth channel.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dist_train.data.decoding.deep import DeepImage, deep_image
from dist_train.data.decoding.picture import Pixels
from dist_train.data.decoding.rules import DecodeRules

NPY = b"\x93NUMPY"
"""How a file of ``numpy.save`` begins."""

LUMA = np.array([19595, 38470, 7471], dtype=np.uint64)
"""Weights of red, green and blue in grey, times 2^16: those of Pillow (ITU-R BT.601)."""


def pixels_of(image: Image.Image, turned: Image.Transpose | None, rules: DecodeRules, content: bytes = b"") -> Pixels:
    """Return a loaded PIL image as ``rules`` want it: uint8 or uint16 [H, W, C].

    Args:
        turned: how to put it upright.
        content: of its file, if there is one: Pillow keeps only 8 bits of colours.

    Raises:
        ValueError: it has another number of channels, or values that are NaN or infinite.
    """
    deep = deep_image(image, content)
    found = _of_8_bits(image, rules) if deep is None else in_levels(deep, rules)
    return np.array(_fitted(_turned(found, turned), rules.channels), order="C")


def pixels_of_array(found: NDArray[np.uint8] | DeepImage, rules: DecodeRules) -> Pixels:
    """Return an array of a data set, or of a file, as ``rules`` want it: uint8 or uint16 [H, W, C].

    Args:
        found: what ``as_pixels`` made of it.

    Raises:
        ValueError: it has values that are NaN or infinite.
    """
    if isinstance(found, DeepImage):
        pixels = in_levels(found, rules)
    else:
        pixels = _spread(found if found.ndim == 3 else found[:, :, None], rules)
    return np.array(_fitted(pixels, rules.channels), order="C")


def array_in(content: bytes, rules: DecodeRules) -> NDArray[np.generic]:
    """Return the array in a ``.npy`` file.

    Raises:
        ValueError: the file is damaged, too large, or holds Python objects.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, _ = read(file)
    if rules.max_pixels is not None and len(shape) in (2, 3) and shape[0] * shape[1] > rules.max_pixels:
        raise ValueError(f"it has {shape[1]} x {shape[0]} pixels, more than `data.max_pixels` ({rules.max_pixels})")
    found: NDArray[np.generic] = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def in_levels(deep: DeepImage, rules: DecodeRules) -> Pixels:
    """Return stored values as uint8 or uint16 [H, W, C], with transparency as the last channel."""
    found = deep.in_levels(rules.value_range, rules.bits)
    return found if found.ndim == 3 else found[:, :, None]


def _of_8_bits(image: Image.Image, rules: DecodeRules) -> Pixels:
    if image.mode == "CMYK" and rules.channels == 4:
        raise ValueError("its four channels are cyan, magenta, yellow and black, and not RGB with transparency")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    found = np.asarray(image)
    return _spread(found if found.ndim == 3 else found[:, :, None], rules)


def _spread(pixels: NDArray[np.uint8], rules: DecodeRules) -> Pixels:
    """Return 8 bits as the levels of ``rules``: 255 becomes 65535."""
    return pixels * np.uint16(257) if rules.bits == 16 else pixels


def _turned(pixels: Pixels, how: Image.Transpose | None) -> Pixels:
    match how:
        case Image.Transpose.FLIP_LEFT_RIGHT:
            return pixels[:, ::-1]
        case Image.Transpose.FLIP_TOP_BOTTOM:
            return pixels[::-1]
        case Image.Transpose.TRANSPOSE:
            return pixels.swapaxes(0, 1)
        case Image.Transpose.TRANSVERSE:
            return pixels[::-1, ::-1].swapaxes(0, 1)
        case None:
            return pixels
    quarters = {Image.Transpose.ROTATE_90: 1, Image.Transpose.ROTATE_180: 2, Image.Transpose.ROTATE_270: 3}
    return np.rot90(pixels, quarters[how])


def _fitted(pixels: Pixels, channels: int) -> Pixels:
    """Return an image with ``channels``: colours become grey and grey becomes colours; transparency is laid on white."""
    if pixels.shape[2] == channels:
        return pixels
    if pixels.shape[2] not in (1, 3, 4) or channels not in (1, 3):
        kept = "; it has no transparency" if (pixels.shape[2], channels) == (3, 4) else ""
        raise ValueError(f"it has {pixels.shape[2]} channel(s), and `data.channels` is {channels}{kept}")
    if pixels.shape[2] == 4:
        pixels = _on_white(pixels)
    if channels == 3:
        return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)
    if pixels.shape[2] == 1:
        return pixels
    grey = (pixels.astype(np.uint64) @ LUMA + 2**15) >> 16
    return grey[:, :, None].astype(pixels.dtype)


def _on_white(pixels: Pixels) -> Pixels:
    white = np.uint64(np.iinfo(pixels.dtype).max)
    wide = pixels.astype(np.uint64)
    alpha = wide[:, :, 3:]
    return ((wide[:, :, :3] * alpha + white * (white - alpha) + white // 2) // white).astype(pixels.dtype)
