"""Which values of images of more than 8 bits per channel become 0 and 255: one range for a whole data set.

A range for each image would be simpler, and would make a dark image as bright as a bright one.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""Stored values: whole numbers or floats, [H, W] or [H, W, C]."""

Range = tuple[float, float]
"""The values that become 0 and 255. What lies outside becomes 0 or 255 too."""

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""What cameras and scanners deliver in files of 16 bits."""

USUAL_FLOATS: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


def range_of(samples: Iterable[Values]) -> Range:
    """Return the range that holds all values of some images.

    Raises:
        ValueError: there are no images.

    Whole numbers from 0 get the fewest bits of ``BIT_DEPTHS`` that hold them all, floats the first of ``USUAL_FLOATS``
    that does. Otherwise the range goes from the least to the greatest value.
    """
    low, high, whole = np.inf, -np.inf, True
    for values in samples:
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        whole = whole and values.dtype.kind in "iu"
    if low > high:
        raise ValueError("there are no values")
    usual = tuple((0.0, 2.0**bits - 1) for bits in BIT_DEPTHS) if whole else USUAL_FLOATS
    fitting = (bounds for bounds in usual if bounds[0] <= low and high <= bounds[1])
    return next(fitting, (low, max(high, low + 1)))


def to_8_bits(values: Values, bounds: Range) -> NDArray[np.uint8]:
    """Map a range to 0 to 255. Whole numbers in the range of n bits keep their upper 8.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    low, high = bounds
    bits = int(high).bit_length()
    if values.dtype.kind in "iu" and low == 0 and high == 2**bits - 1 and bits >= 8:
        return (np.clip(values, 0, int(high)) >> (bits - 8)).astype(np.uint8)
    refuse_non_finite(values)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def to_16_bits(values: Values, bounds: Range) -> NDArray[np.uint16]:
    """Map a range to 0 to 65535; values in the range of 16 bits stay as they are.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    low, high = bounds
    refuse_non_finite(values)
    scaled = (values.astype(np.float64) - low) * (65535 / (high - low))
    return np.clip(np.rint(scaled), 0, 65535).astype(np.uint16)


def refuse_non_finite(values: Values) -> None:
    """Raise ``ValueError`` if a value is NaN or infinite."""
    odd = 0 if values.dtype.kind in "iu" else int((~np.isfinite(values)).sum())
    if odd:
        raise ValueError(f"{odd} of its {values.size} values are NaN or infinite")


def outside(values: Values, bounds: Range) -> float:
    """Return the share of values that lie outside a range, 0 to 1."""
    return float(((values < bounds[0]) | (values > bounds[1])).mean())


def describe(bounds: Range) -> str:
    """Return a range in words, such as ``[0, 4095] (12 bits)``."""
    bits = int(bounds[1]).bit_length()
    exact = bounds == (0, 2**bits - 1) and bits >= 8
    return f"[{bounds[0]:g}, {bounds[1]:g}]" + (f" ({bits} bits)" if exact else "")
