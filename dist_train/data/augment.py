"""From an RGB image to uint8 pixels on the CPU: crop, flip, RandAugment. One function per split.

Every random number of a sample follows from its key, a function of (seed, epoch, index), so a sample looks the same
after a resume, in any process, at any world size.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dist_train.config import AugmentConfig
from dist_train.data.decode import RGB
from dist_train.data.draws import Drawer
from dist_train.data.pixel_ops import operations

Transform = Callable[[RGB, int, RGB], None]
"""From an image of any size and the key of its random numbers into its place in a batch, uint8 [S, S, 3]."""


def kept_share(cfg: AugmentConfig, crop_pct: float) -> float:
    """Share of the resized image that evaluation keeps: the model's own after random crops, else all of it.

    Cutting the middle out makes up for random crops, which show objects larger; without them it only loses pixels.
    """
    return crop_pct if cfg.crop == "random_resized" else 1.0


def evaluation_transform(size: int, crop_pct: float) -> Callable[[RGB], RGB]:
    """Resize the shorter side to ``size / crop_pct`` (bicubic), cut the middle ``size`` x ``size``."""

    def transform(image: RGB) -> RGB:
        return _middle(image, round(size / crop_pct), size, InterpolationMode.BICUBIC)

    return transform


def without_draws(transform: Callable[[RGB], RGB]) -> Transform:
    """A transform that needs no random numbers, in the form of one that does."""

    def place(image: RGB, _key: int, target: RGB) -> None:
        target[...] = transform(image)

    return place


def training_transform(cfg: AugmentConfig, size: int) -> Transform:
    """Crop, flip, RandAugment (Cubuk et al., 2019, as torchvision implements it) as ``augment`` says."""
    draw = Drawer(cfg)
    interpolation = InterpolationMode(cfg.interpolation)
    known = operations(cfg.randaugment, size) if cfg.randaugment else {}
    spare = np.empty((2, size, size, 3), dtype=np.uint8)

    def transform(image: RGB, key: int, target: RGB) -> None:
        draws = draw(key, *image.shape[:2])
        if draws.box is None:
            pixels = _middle(image, size, size, interpolation)
        else:
            pixels = _part(image, draws.box, size, interpolation)
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


def _middle(image: RGB, shorter: int, size: int, interpolation: InterpolationMode) -> RGB:
    pixels = _CHW(image)
    if min(image.shape[:2]) != shorter:
        pixels = F.resize(pixels, [shorter], interpolation=interpolation, antialias=True)
    return _HWC(F.center_crop(pixels, [size, size]))


def _part(image: RGB, box: tuple[int, int, int, int], size: int, interpolation: InterpolationMode) -> RGB:
    top, left, height, width = box
    pixels = _CHW(image[top : top + height, left : left + width])
    return _HWC(F.resize(pixels, [size, size], interpolation=interpolation, antialias=True))


def _CHW(image: RGB) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def _HWC(pixels_CHW: Tensor) -> RGB:
    return np.ascontiguousarray(pixels_CHW.permute(1, 2, 0).numpy())
