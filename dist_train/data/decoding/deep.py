"""Images of more than 8 bits per channel, with the values that are stored in them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from dist_train.data.decoding.value_range import (
    Range,
    Values,
    describe,
    outside,
    range_of,
    refuse_non_finite,
    to_8_bits,
    to_16_bits,
)

log = logging.getLogger(__name__)

PNG_BIT_DEPTH = 24
"""The byte of a PNG file that holds the bits per channel."""

CUT_OFF = 0.01
"""With more values than this share outside the range, an image is worth a warning. Fewer are dead pixels."""


@dataclass(frozen=True)
class DeepImage:
    """Attributes:
    values: whole numbers or floats, [H, W], [H, W, 3] in RGB order, or [H, W, C].
    alpha: whole numbers [H, W]; None for an image without transparency.
    white_is_zero: the greatest value is black.
    """

    values: Values
    alpha: Values | None = None
    white_is_zero: bool = False

    def in_8_bits(self, bounds: Range | None) -> Image.Image:
        """Return the image with 8 bits per channel, of mode L, RGB or RGBA.

        Args:
            bounds: of the data set; None takes those of the image.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        bounds = self._bounds(bounds)
        pixels = to_8_bits(self.values, bounds)
        if self.white_is_zero:
            pixels = 255 - pixels
        image = Image.fromarray(pixels)
        if self.alpha is not None:
            image = image.convert("RGB")
            image.putalpha(Image.fromarray(to_8_bits(self.alpha, bounds)))
        return image

    def in_levels(self, bounds: Range | None, bits: int) -> NDArray[Any]:
        """Return the values as uint8 or uint16, [H, W] or [H, W, C]; transparency is the last channel.

        Args:
            bounds: as for ``in_8_bits``.
            bits: 8 or 16.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        bounds, mapped = self._bounds(bounds), to_8_bits if bits == 8 else to_16_bits
        pixels: NDArray[Any] = mapped(self.values, bounds)
        if self.white_is_zero:
            pixels = np.iinfo(pixels.dtype).max - pixels
        if self.alpha is None:
            return pixels
        colours = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
        return np.concatenate([colours, mapped(self.alpha, bounds)[:, :, None]], axis=2)

    def _bounds(self, bounds: Range | None) -> Range:
        refuse_non_finite(self.values)
        if bounds is None:
            bounds = range_of([self.values])
            _warn_once(None, f"is mapped by its own values, {describe(bounds)}: none was found when the run began")
        elif outside(self.values, bounds) > CUT_OFF:
            _warn_once(bounds, f"has more than {CUT_OFF:.0%} of its values outside of {describe(bounds)}")
        return bounds


def is_deep(image: Image.Image, content: bytes = b"") -> bool:
    """Return whether an image has more than 8 bits per channel, by its header.

    Args:
        content: of its file; needed for colours, which Pillow reduces to 8 bits by itself.
    """
    return image.mode == "F" or image.mode.startswith("I") or _is_reduced(image, content)


def deep_image(image: Image.Image, content: bytes = b"") -> DeepImage | None:
    """Return the stored values of a loaded image, in the orientation that Pillow gives it; None for one of 8 bits.

    Raises:
        ValueError: it has colours of more than 8 bits, and OpenCV cannot decode them.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        return DeepImage(np.asarray(image), white_is_zero=inverted)
    return _colours(content) if _is_reduced(image, content) else None


def _is_reduced(image: Image.Image, content: bytes) -> bool:
    """Whether Pillow keeps the upper 8 bits only, which it does without a word."""
    match image.format:
        case "PNG":
            return len(content) > PNG_BIT_DEPTH and content[PNG_BIT_DEPTH] == 16
        case "TIFF":
            assert isinstance(image, TiffImageFile)
            return bool(content) and max(image.tag_v2.get(BITSPERSAMPLE, (8,))) > 8
        case "PPM":
            return content.startswith(b"P6") and _greatest_of_ppm(content) > 255
        case _:
            return False


def _greatest_of_ppm(content: bytes) -> int:
    """The fourth word of the header, between comments: the value of white."""
    lines = (line.partition(b"#")[0] for line in content[:4096].splitlines())
    words = b" ".join(lines).split(maxsplit=4)
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 255


def _colours(content: bytes) -> DeepImage:
    with _quiet_opencv():
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.ndim != 3 or found.shape[2] not in (3, 4):
        raise ValueError("its colours have more than 8 bits per channel, and OpenCV cannot decode them")
    alpha = found[:, :, 3] if found.shape[2] == 4 else None
    return DeepImage(np.ascontiguousarray(found[:, :, 2::-1]), alpha)


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Without OpenCV's warnings about odd metadata, which go to stderr for each image."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _warn_once(bounds: Range | None, what: str) -> None:
    if bounds not in _warned:
        _warned.add(bounds)
        log.warning(
            "an image of more than 8 bits per channel %s; begin a new run with another `data.value_range`", what
        )


_warned: set[Range | None] = set()
"""In this process; each loader process warns for itself."""


def as_0_1_0(image: Image.Image) -> NDArray[np.uint8]:
    """Return a grey image of more than 8 bits as version 0.1.0 did: uint8 [H, W].

    Raises:
        ValueError: a value is NaN or infinite.
    """
    pixels = np.asarray(image)
    if pixels.dtype.itemsize == 2 or (pixels.dtype.kind == "i" and pixels.min() >= 0 and 255 < pixels.max() < 65536):
        return (pixels // 256).astype(np.uint8)
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it has pixels that are not finite numbers")
    return ((pixels - low) * (255 / (high - low or 1))).round().astype(np.uint8)
