"""From an image to the pixels of a batch on the CPU: crop, flip, ``augment.ops``.

Every random number of a sample follows from its key, a function of (seed, epoch, index), so a sample looks the same
after a resume, in any process, at any world size.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.types import Size
from dist_train.data.augment.draws import Drawer
from dist_train.data.augment.frame import BLACK, MARGIN, Frame, covering, training_frame, with_margin
from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.randaugment_cpu import operations, run_steps
from dist_train.data.decoding.picture import Box, Colour, Picture, Pixels, Transform, part


def evaluation_transform(frame: Frame) -> Callable[[Pixels], Pixels]:
    """Return the transform of evaluation: from [h, w, C] of any size to [H, W, C]."""
    return lambda image: framed(image, frame)


def without_draws(transform: Callable[[Pixels], Pixels]) -> Transform:
    """Return a transform that takes no random numbers, in the form of one that does."""

    def place(picture: Picture, _key: int, target: Pixels) -> None:
        target[...] = transform(picture.pixels())

    return place


def training_transform(
    cfg: AugmentConfig, size: Size, fill: Colour = BLACK, bits: int = 8, channels: int = 3
) -> Transform:
    """Return crop, flip and ``augment.ops``. RandAugment (Cubuk et al., 2019) is as torchvision implements it.

    Args:
        size: H and W of the model's input, in pixels.
        fill: colour of the margins of a padded image.
        bits, channels: of the images, ``data.bits`` and ``data.channels``.

    Raises:
        ConfigError: one of ``augment.ops`` cannot be made, or returns something else than an image.
    """
    cv2.setNumThreads(0)  # loader processes are forked, and OpenCV's threads do not survive a fork
    draw, fit = Drawer(cfg, size, with_margin), _fit(cfg, size, fill)
    # RandAugment in the first place is applied together with the flip, without a copy between them.
    first = [options for options, _ in cfg.randaugments()[:1] if cfg.ops[0].name == "randaugment"]
    known, leading = (operations(first[0], *size), first[0].num_ops) if first else ({}, 0)
    others = Chain(cfg.ops, Place.of(cfg, size, fill, bits, channels), skip=len(first))

    def transform(picture: Picture, key: int, target: Pixels) -> None:
        draws = draw(key, *picture.size)
        pixels = fit(picture, draws.box)
        steps = [step for code in draws.codes[:leading] if (step := known[code]) is not None]
        run_steps([_flip, *steps] if draws.flip else steps, pixels, target)
        if others:
            target[...] = others(target, key, draws.codes)

    return transform


def _fit(cfg: AugmentConfig, size: Size, fill: Colour) -> Callable[[Picture, Box | None], Pixels]:
    """Return what makes an image of ``size`` of a picture and the box that was drawn for it."""
    frame, cover = training_frame(cfg, size, fill), covering(size, cfg.interpolation)

    def fit(picture: Picture, box: Box | None) -> Pixels:
        if frame is not None:
            return framed(picture.pixels(), frame)
        assert box is not None
        if cfg.crop == "random":
            return randomly_cut(picture.pixels(), cover, box)
        return resized(picture.pixels(box, size), *size, cfg.interpolation)

    return fit


def _flip(source: Pixels, target: Pixels) -> None:
    cv2.flip(source, 1, target)


def framed(image: Pixels, frame: Frame) -> Pixels:
    """Return an image as [H, W, C], whole or its middle."""
    if frame.mode == "center":
        image = _middle_strip(image, frame)
    image = resized(image, *frame.resized(*image.shape[:2]), frame.interpolation)
    if image.shape[:2] == frame.size:
        return image
    return _middle(image, frame.size, 0 if frame.mode == "center" else frame.fill)


def _middle(image: Pixels, size: Size, fill: Colour | int) -> Pixels:
    """Cut the middle out; where the image is smaller, add margins. Rounded as torchvision's center_crop."""
    (height, width), (rows, columns) = image.shape[:2], size
    if height < rows or width < columns:
        padded = np.full((max(height, rows), max(width, columns), image.shape[2]), fill, dtype=image.dtype)
        top, left = max(rows - height, 0) // 2, max(columns - width, 0) // 2
        padded[top : top + height, left : left + width] = image
        image = padded
    top, left = (round((there - wanted) / 2) for there, wanted in zip(image.shape[:2], size, strict=True))
    return np.ascontiguousarray(image[top : top + rows, left : left + columns])


def _middle_strip(image: Pixels, frame: Frame) -> Pixels:
    """Return the middle of an image that would become too large before ``center`` cuts it, such as a line of pixels."""
    height, width = image.shape[:2]
    rows, columns = frame.strip(height, width)
    if (rows, columns) == (height, width):
        return image
    return part(image, ((height - rows) // 2, (width - columns) // 2, rows, columns))


def randomly_cut(image: Pixels, frame: Frame, box: Box) -> Pixels:
    """Return the part in ``box`` of an image that is resized to cover ``frame``, with margins of mirrored pixels."""
    image = _middle_strip(image, frame)
    image = resized(image, *frame.resized(*image.shape[:2]), frame.interpolation)
    wide = cv2.copyMakeBorder(image, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REFLECT_101)
    return part(wide.reshape(*wide.shape[:2], image.shape[2]), box)


def resized(image: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """Return an image resized with antialiasing, as torchvision resizes tensors: 16 bits in float32, which holds them exactly."""
    if image.shape[:2] == (height, width):
        return image
    # As one image of a batch with channels last, in and out: all other forms are copied.
    pixels_1CHW = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    smooth = interpolation != "nearest"
    if image.dtype == np.uint16:
        pixels_1CHW = pixels_1CHW.float()
    found = interpolate(pixels_1CHW, [height, width], mode=interpolation, antialias=smooth)
    if image.dtype == np.uint16:
        found = found.round_().clamp_(0, 65535).to(torch.uint16)
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())
