"""From an RGB image to uint8 pixels on the CPU: crop, flip, ``augment.ops``.

Every random number of a sample follows from its key, a function of (seed, epoch, index), so a sample looks the same
after a resume, in any process, at any world size.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from dist_train.config.sections.augment import AugmentConfig
from dist_train.data.augment.draws import Drawer
from dist_train.data.augment.frame import BLACK, Frame, training_frame
from dist_train.data.augment.ops.chain import Chain
from dist_train.data.augment.ops.forms import Place
from dist_train.data.augment.randaugment_cpu import operations, run_steps
from dist_train.data.decoding.picture import RGB, Colour, Picture, Transform, part

MOST_RESIZED_PIXELS = 2**26
"""200 MB. An image that ``center`` would resize to more, such as one of 1 x 10,000 pixels, is cut before it is resized."""


def evaluation_transform(frame: Frame) -> Callable[[RGB], RGB]:
    """Return the transform of evaluation: uint8 [H, W, 3] to uint8 [S, S, 3], bicubic."""
    return lambda image: framed(image, frame, "bicubic")


def without_draws(transform: Callable[[RGB], RGB]) -> Transform:
    """Return a transform that takes no random numbers, in the form of one that does."""

    def place(picture: Picture, _key: int, target: RGB) -> None:
        target[...] = transform(picture.pixels())

    return place


def training_transform(cfg: AugmentConfig, size: int, fill: Colour = BLACK) -> Transform:
    """Return crop, flip and ``augment.ops``. RandAugment (Cubuk et al., 2019) is as torchvision implements it.

    Args:
        size: of the model's input, in pixels.
        fill: colour of the margins of a padded image.

    Raises:
        ConfigError: one of ``augment.ops`` cannot be made, or returns something else than an image.
    """
    cv2.setNumThreads(0)  # loader processes are forked, and OpenCV's threads do not survive a fork
    draw, frame = Drawer(cfg), training_frame(cfg, size, fill)
    # RandAugment in the first place is applied together with the flip, without a copy between them.
    first = [options for options, _ in cfg.randaugments()[:1] if cfg.ops[0].name == "randaugment"]
    known, leading = (operations(first[0], size), first[0].num_ops) if first else ({}, 0)
    others = Chain(cfg.ops, Place.of(cfg, size, fill), skip=len(first))

    def transform(picture: Picture, key: int, target: RGB) -> None:
        draws = draw(key, *picture.size)
        pixels = picture.pixels(draws.box)
        if frame is None:
            pixels = resized(pixels, size, size, cfg.interpolation)
        else:
            pixels = framed(pixels, frame, cfg.interpolation)
        steps = [step for code in draws.codes[:leading] if (step := known[code]) is not None]
        run_steps([_flip, *steps] if draws.flip else steps, pixels, target)
        if others:
            target[...] = others(target, key, draws.codes)

    return transform


def _flip(source: RGB, target: RGB) -> None:
    cv2.flip(source, 1, target)


def framed(image: RGB, frame: Frame, interpolation: str) -> RGB:
    """Return an image as uint8 [S, S, 3], whole or its middle."""
    if frame.mode == "center":
        return middle(image, frame.shorter, frame.size, interpolation)
    height, width = frame.resized(*image.shape[:2])
    image = resized(image, height, width, interpolation)
    if (height, width) == (frame.size, frame.size):
        return image
    top, left, height, width = frame.place(height, width)
    padded = np.full((frame.size, frame.size, 3), frame.fill, dtype=np.uint8)
    padded[top : top + height, left : left + width] = image
    return padded


def middle(image: RGB, shorter: int, size: int, interpolation: str) -> RGB:
    """Resize the shorter side and cut the middle out; an image smaller than ``size`` gets a black margin."""
    height, width = image.shape[:2]
    least = min(height, width)
    if shorter * height / least * (shorter * width / least) > MOST_RESIZED_PIXELS:
        image = _middle_strip(image, least * (size // shorter + 2))
        height, width = image.shape[:2]
    image = resized(image, int(shorter * height / least), int(shorter * width / least), interpolation)
    if image.shape[:2] == (size, size):
        return image
    return np.ascontiguousarray(F.center_crop(torch.from_numpy(image).permute(2, 0, 1), [size, size]).permute(1, 2, 0))


def _middle_strip(image: RGB, longest: int) -> RGB:
    # As much is cut on the one side as on the other: half a pixel is many after resizing.
    height, width = (min(side, longest + (side - longest) % 2) for side in image.shape[:2])
    return part(image, ((image.shape[0] - height) // 2, (image.shape[1] - width) // 2, height, width))


def resized(image: RGB, height: int, width: int, interpolation: str) -> RGB:
    """Return an image resized with antialiasing, as torchvision resizes uint8 tensors."""
    if image.shape[:2] == (height, width):
        return image
    # As one image of a batch with channels last, in and out: all other forms are copied.
    pixels_1CHW = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    smooth = interpolation != "nearest"
    found = interpolate(pixels_1CHW, [height, width], mode=interpolation, antialias=smooth)
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())
