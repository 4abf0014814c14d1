"""From an RGB image to uint8 pixels on the CPU: crop, flip, RandAugment. One function per split.

Every random number of a sample follows from its key, a function of (seed, epoch, index), so a sample looks the same
after a resume, in any process, at any world size.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from dist_train.config.sections.augment import AugmentConfig
from dist_train.data.augment.draws import Drawer
from dist_train.data.augment.randaugment_cpu import operations
from dist_train.data.decoding.picture import RGB, Picture, Transform


def kept_share(cfg: AugmentConfig, crop_pct: float) -> float:
    """Share of the resized image that evaluation keeps: the model's own after random crops, else all of it.

    Cutting the middle out makes up for random crops, which show objects larger; without them it only loses pixels.
    """
    return crop_pct if cfg.crop == "random_resized" else 1.0


def shorter_side(size: int, crop_pct: float) -> int:
    """To how many pixels evaluation resizes the shorter side, before it cuts out the middle: as timm, rounded down.

    What is added makes up for rounding where ``crop_pct`` is a ratio of two sizes, as torchvision gives them.
    """
    return math.floor(size / crop_pct + 1e-9)


def evaluation_transform(size: int, crop_pct: float) -> Callable[[RGB], RGB]:
    """Resize the shorter side to ``shorter_side`` (bicubic), cut the middle ``size`` x ``size``."""

    def transform(image: RGB) -> RGB:
        return middle(image, shorter_side(size, crop_pct), size, "bicubic")

    return transform


def without_draws(transform: Callable[[RGB], RGB]) -> Transform:
    """A transform that needs no random numbers, in the form of one that does."""

    def place(picture: Picture, _key: int, target: RGB) -> None:
        target[...] = transform(picture.pixels())

    return place


def training_transform(cfg: AugmentConfig, size: int) -> Transform:
    """Crop, flip, RandAugment (Cubuk et al., 2019, as torchvision implements it) as ``augment`` says."""
    cv2.setNumThreads(0)  # one core each: loader processes are forked, and OpenCV's threads would not survive that
    draw = Drawer(cfg)
    known = operations(cfg.randaugment, size) if cfg.randaugment else {}
    spare = np.empty((2, size, size, 3), dtype=np.uint8)

    def transform(picture: Picture, key: int, target: RGB) -> None:
        draws = draw(key, *picture.size)
        pixels = picture.pixels(draws.box)
        if draws.box is None:
            pixels = middle(pixels, size, size, cfg.interpolation)
        else:
            pixels = resized(pixels, size, size, cfg.interpolation)
        steps = [step for code in draws.codes if (step := known[code]) is not None]
        if draws.flip:
            steps.insert(0, _flip)
        if not steps:
            target[...] = pixels
        for number, step in enumerate(steps, start=1):
            written = target if number == len(steps) else spare[number % 2]
            step(pixels, written)
            pixels = written

    return transform


def _flip(source: RGB, target: RGB) -> None:
    cv2.flip(source, 1, target)


def middle(image: RGB, shorter: int, size: int, interpolation: str) -> RGB:
    """Resize the shorter side, cut out the middle; an image that is smaller than ``size`` gets a black margin."""
    height, width = image.shape[:2]
    least = min(height, width)
    image = resized(image, int(shorter * height / least), int(shorter * width / least), interpolation)
    if image.shape[:2] == (size, size):
        return image
    return np.ascontiguousarray(F.center_crop(torch.from_numpy(image).permute(2, 0, 1), [size, size]).permute(1, 2, 0))


def resized(image: RGB, height: int, width: int, interpolation: str) -> RGB:
    """An image resized with antialiasing, as torchvision does it with uint8 tensors."""
    if image.shape[:2] == (height, width):
        return image
    # As one of a batch whose channels are last, and are so again in the result: all other ways copy.
    pixels_1CHW = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    smooth = interpolation != "nearest"
    found = interpolate(pixels_1CHW, [height, width], mode=interpolation, antialias=smooth)
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())
