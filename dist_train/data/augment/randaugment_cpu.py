"""RandAugment's operations on uint8 pixels: the results of torchvision on PIL images, several times as fast.

Tables and maps come from torchvision's own functions, applied once to a ramp of values or of coordinates. All operations
give the same bits as torchvision, except for shears and rotations with ``bilinear``: there OpenCV computes in float32 and
Pillow in float64, and a few values differ by one level, at most one in 20 of noise, less than one in 200 of a photograph.
OpenCV must be version 5: earlier ones round coordinates to 1/32 pixel.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dist_train.data.augment.draws import CODES, magnitude, operation
from dist_train.data.decoding.picture import RGB

if TYPE_CHECKING:
    from dist_train.config.ops.options import RandAugment

Step = Callable[[RGB, RGB], object]
"""(source, target): reads an image and writes one of the same size. Two different arrays, both contiguous."""

Fill = tuple[int, int, int]

Table = NDArray[np.uint8]
"""The new value of each value; uint8 [256]."""

VALUES = np.arange(256, dtype=np.uint8)

SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
"""Pillow's kernel for the smooth image that Sharpness blends with."""


def operations(cfg: "RandAugment", height: int, width: int) -> dict[int, Step | None]:
    """Return for each code its operation on an image of ``height`` x ``width`` pixels; None for the identity."""
    return {code: _step(cfg, operation(code), magnitude(code, cfg.magnitude, height, width)) for code in CODES}


def run_steps(steps: Sequence[Step], pixels: RGB, target: RGB) -> None:
    """Write to ``target`` what the steps, in their order, make of ``pixels``, which stay as they are."""
    if not steps:
        target[...] = pixels
    for number, step in enumerate(steps, start=1):
        written = target if number == len(steps) else _spare(target.shape)[number % 2]
        step(pixels, written)
        pixels = written


@lru_cache(maxsize=2)
def _spare(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return two images for what lies between steps."""
    return np.empty((2, *shape), dtype=np.uint8)


def _step(cfg: "RandAugment", name: str, amount: float) -> Step | None:
    match name:
        case "ShearX" | "ShearY" | "Rotate":
            warp = _warp_nearest if cfg.interpolation == "nearest" else _warp_bilinear
            return partial(warp, name, amount, cfg.fill)
        case "TranslateX":
            return partial(_translate, int(amount), 0, cfg.fill)
        case "TranslateY":
            return partial(_translate, 0, int(amount), cfg.fill)
        case "Brightness":
            return partial(_look_up, _ramp(F.adjust_brightness, 1 + amount))
        case "Posterize":
            return partial(_look_up, _ramp(F.posterize, int(amount)))
        case "Solarize":
            return partial(_look_up, _ramp(F.solarize, 255.0 * amount))
        case "Contrast":
            return partial(_contrast, 1 + amount)
        case "Color":
            return partial(_color, 1 + amount)
        case "Sharpness":
            return partial(_sharpness, 1 + amount)
        case "AutoContrast":
            return partial(_each_channel, _stretching)
        case "Equalize":
            return partial(_each_channel, _equalizing)
        case _:
            return None


def _ramp(function: Callable[..., Image.Image], *args: Any) -> Table:
    """Return what torchvision's ``function`` on a PIL image makes of each value."""
    return np.array(function(Image.fromarray(VALUES[None]), *args)).ravel()


def _look_up(table: Table, source: RGB, target: RGB) -> None:
    cv2.LUT(source, table, target)


def _each_channel(table_for: Callable[[NDArray[np.uint8]], Table | None], source: RGB, target: RGB) -> None:
    channels = cv2.split(source)
    tables = [table_for(channel) for channel in channels]
    cv2.merge([_through(table, plane) for table, plane in zip(tables, channels, strict=True)], target)


def _through(table: Table | None, plane: NDArray[np.uint8]) -> NDArray[Any]:
    return plane if table is None else cv2.LUT(plane, table)


def _stretching(plane: NDArray[np.uint8]) -> Table | None:
    """Return the table that maps the least and the greatest value to 0 and 255."""
    low, high = int(plane.min()), int(plane.max())
    return None if high <= low else _stretched(low, high)


@lru_cache(maxsize=4096)
def _stretched(low: int, high: int) -> Table:
    scale = 255.0 / (high - low)
    return (VALUES * scale + -low * scale).clip(0, 255).astype(np.uint8)


def _equalizing(plane: NDArray[np.uint8]) -> Table | None:
    """Return the table that makes the histogram as flat as equal values allow."""
    counts = cv2.calcHist([plane], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    last = counts[counts.nonzero()[0][-1]]
    step = int(plane.size - last) // 255
    if not step:  # also the case for an image of a single value
        return None
    below: NDArray[np.int64] = np.cumsum(counts) - counts
    return np.clip((step // 2 + below) // step, 0, 255).astype(np.uint8)


def _grey(source: RGB) -> NDArray[np.uint8]:
    """Return greys by Pillow: OpenCV weighs colours a little differently. Pillow takes 4 bytes per pixel without a copy."""
    height, width = source.shape[:2]
    pixels = cv2.cvtColor(source, cv2.COLOR_RGB2RGBA)
    return np.asarray(Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1).convert("L"))


def _contrast(factor: float, source: RGB, target: RGB) -> None:
    grey = _grey(source)
    mean = int(grey.sum(dtype=np.uint64)) / grey.size
    cv2.LUT(source, _away_from(int(mean + 0.5), factor), target)


@lru_cache(maxsize=1024)
def _away_from(level: int, factor: float) -> Table:
    return np.array(Image.blend(Image.new("L", (256, 1), level), Image.fromarray(VALUES[None]), factor)).ravel()


def _color(factor: float, source: RGB, target: RGB) -> None:
    grey = _grey(source)
    _blend(cv2.merge([grey, grey, grey]), source, factor, target)


def _sharpness(factor: float, source: RGB, target: RGB) -> None:
    smooth = cv2.filter2D(source, -1, SMOOTH)
    for edge in (0, -1):  # Pillow does not change the edges
        smooth[edge], smooth[:, edge] = source[edge], source[:, edge]
    _blend(smooth, source, factor, target)


def _blend(dull: NDArray[Any], source: RGB, factor: float, target: RGB) -> None:
    """Write ``dull + factor * (source - dull)``, limited to 0 and 255 and rounded down; in float32, as Pillow."""
    result, base = source.astype(np.float32), dull.astype(np.float32)
    result -= base
    result *= np.float32(factor)
    result += base
    np.clip(result, 0, 255, out=result)
    target[...] = result


def _translate(right: int, down: int, fill: Fill, source: RGB, target: RGB) -> None:
    """Shift by whole pixels; negative numbers shift left and up."""
    height, width = source.shape[:2]
    kept = source[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    margins = max(down, 0), max(-down, 0), max(right, 0), max(-right, 0)
    cv2.copyMakeBorder(kept, *margins, cv2.BORDER_CONSTANT, target, fill)


def _warp_nearest(name: str, amount: float, fill: Fill, source: RGB, target: RGB) -> None:
    """Copy pixels as single numbers of 32 bits; the last number is the fill."""
    height, width = source.shape[:2]
    numbers = np.empty(height * width + 1, dtype=np.uint32)
    pixels = numbers.view(np.uint8).reshape(-1, 4)
    pixels[-1, :3] = fill
    cv2.cvtColor(source, cv2.COLOR_RGB2RGBA, pixels[:-1].reshape(height, width, 4))
    found = numbers.take(_nearest(name, amount, height, width))
    cv2.cvtColor(found.view(np.uint8).reshape(height, width, 4), cv2.COLOR_RGBA2RGB, target)


def _warp_bilinear(name: str, amount: float, fill: Fill, source: RGB, target: RGB) -> None:
    x, y, outside = _between(name, amount, *source.shape[:2])
    # 256 times the values, so that the fraction is cut off at the end, as Pillow does.
    fine = np.multiply(source, np.uint16(256), dtype=np.uint16)
    found = cv2.remap(fine, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    np.right_shift(found, 8, out=target, casting="unsafe")
    cv2.copyTo(_filled(fill, *source.shape[:2]), outside, target)


@lru_cache(maxsize=16)
def _nearest(name: str, amount: float, height: int, width: int) -> NDArray[np.int64]:
    """Return for each pixel the number of its source pixel; ``height * width`` outside of the image."""
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    return _by_torchvision(name, amount, numbers, InterpolationMode.NEAREST, fill=height * width).astype(np.int64)


@lru_cache(maxsize=16)
def _between(
    name: str, amount: float, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Return x and y of each pixel's source, and 1 where that lies outside of the image."""
    y, x = (ramp.astype(np.float32) for ramp in np.indices((height, width)))
    inside = np.ones((height, width), dtype=np.float32)
    bilinear = InterpolationMode.BILINEAR
    x, y, inside = (_by_torchvision(name, amount, plane, bilinear, fill=0) for plane in (x, y, inside))
    return x, y, (inside == 0).astype(np.uint8)


@lru_cache(maxsize=2)
def _filled(fill: Fill, height: int, width: int) -> RGB:
    return np.full((height, width, 3), fill, dtype=np.uint8)


def _by_torchvision(name: str, amount: float, plane: NDArray[Any], mode: InterpolationMode, fill: int) -> NDArray[Any]:
    """Return a plane of numbers, sheared or rotated as RandAugment does it; ``amount`` is a slope, or degrees."""
    image = Image.fromarray(plane)
    if name == "Rotate":
        return np.array(F.rotate(image, amount, interpolation=mode, fill=fill))
    degrees = math.degrees(math.atan(amount))
    shear = [degrees, 0.0] if name == "ShearX" else [0.0, degrees]
    turned = F.affine(image, 0.0, [0, 0], 1.0, shear, interpolation=mode, fill=fill, center=[0, 0])
    return np.array(turned)
