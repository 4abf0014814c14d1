"""From an RGB image to uint8 pixels on the CPU: crop, flip, RandAugment. One function per split.

Every random number of a sample follows from (seed, epoch, index), so a sample looks the same after a resume,
in any process, at any world size.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from dist_train.config import AugmentConfig

Transform = Callable[[Image.Image], NDArray[np.uint8]]
"""An RGB image of any size to uint8 [S, S, 3]."""


def kept_share(cfg: AugmentConfig, crop_pct: float) -> float:
    """Share of the resized image that evaluation keeps: the model's own after random crops, else all of it.

    Cutting the middle out makes up for random crops, which show objects larger; without them it only loses pixels.
    """
    return crop_pct if cfg.crop == "random_resized" else 1.0


def evaluation_transform(size: int, crop_pct: float) -> Transform:
    """Resize the shorter side to ``size / crop_pct`` (bicubic), cut the middle ``size`` x ``size``."""

    def transform(image: Image.Image) -> NDArray[np.uint8]:
        pixels = _resize_shorter(F.pil_to_tensor(image), round(size / crop_pct), InterpolationMode.BICUBIC)
        return _to_HWC(F.center_crop(pixels, [size, size]))

    return transform


def training_transform(cfg: AugmentConfig, size: int) -> Transform:
    """Crop, flip, RandAugment (Cubuk et al., 2019, as torchvision implements it) as ``augment`` says.

    Draws from torch's default generator, which the caller seeds for each sample. RandAugment works on the PIL
    image: with these operations that is more than twice as fast as on tensors, and the original policy.
    """
    interpolation = InterpolationMode(cfg.interpolation)
    crop = v2.RandomResizedCrop(
        size, scale=cfg.crop_scale, ratio=cfg.crop_ratio, interpolation=interpolation, antialias=True
    )
    rand_augment = None
    if cfg.randaugment is not None:
        rand_augment = v2.RandAugment(
            num_ops=cfg.randaugment.num_ops,
            magnitude=cfg.randaugment.magnitude,
            interpolation=InterpolationMode(cfg.randaugment.interpolation),
            fill=list(cfg.randaugment.fill),
        )

    def transform(image: Image.Image) -> NDArray[np.uint8]:
        pixels = F.pil_to_tensor(image)
        if cfg.crop == "random_resized":
            pixels = crop(pixels)
        else:
            pixels = F.center_crop(_resize_shorter(pixels, size, interpolation), [size, size])
        if torch.rand(()) < cfg.hflip:
            pixels = pixels.flip(-1)
        if rand_augment is None:
            return _to_HWC(pixels)
        return np.asarray(rand_augment(Image.fromarray(_to_HWC(pixels))))

    return transform


def _resize_shorter(pixels_CHW: Tensor, size: int, interpolation: InterpolationMode) -> Tensor:
    if min(pixels_CHW.shape[-2:]) == size:
        return pixels_CHW
    return F.resize(pixels_CHW, [size], interpolation=interpolation, antialias=True)  # type: ignore[no-any-return]


def _to_HWC(pixels_CHW: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(pixels_CHW.permute(1, 2, 0).numpy())
