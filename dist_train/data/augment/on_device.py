"""What happens to a batch on the device: augment (with ``augment.device``), normalise, erase, mix."""

import random

import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.sections.data import DataConfig
from dist_train.config.sections.loss import LossConfig
from dist_train.config.types import Size
from dist_train.data.augment.mixing import Mixing
from dist_train.data.augment.randaugment_device import DeviceOperations
from dist_train.data.index import DataIndex
from dist_train.model.network import Network, mean_colour, statistics
from dist_train.seeding import fold_in


class Normalise:
    """uint8 or uint16 [B, H, W, C] to float32 [B, C, H, W] with the mean and standard deviation of ``data``, or the model's.

    The result has the memory layout that the model wants. ``mean_colour`` is the colour that becomes about zero.
    """

    def __init__(self, cfg: DataConfig, network: Network, device: torch.device, channels_last: bool) -> None:
        (mean, std), levels = statistics(cfg, network), 2**cfg.bits - 1
        self.mean_colour = mean_colour(cfg, network)
        self._levels = levels
        self._mean = torch.tensor(mean, device=device).mul(levels).view(1, -1, 1, 1)
        self._scale = torch.tensor(std, device=device).mul(levels).reciprocal().view(1, -1, 1, 1)
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        # Type and layout change in one pass over the images; two passes take twice the time of this function.
        images = images_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=self._format)
        return images.sub_(self._mean).mul_(self._scale)

    def undone(self, images_BCHW: Tensor) -> Tensor:
        """Return the images before normalisation, float32 [B, H, W, C]: 0 to 1, but for what was erased with noise."""
        return images_BCHW.div(self._scale).add_(self._mean).div_(self._levels).permute(0, 2, 3, 1)


class AsTheyAre(Normalise):
    """Leaves features, float32 [B, D], as they are."""

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        return images_BHWC


FILLS = {"mean": "const", "colour": "rand", "noise": "pixel"}
"""timm's names for ``augment.erasing_fill``; a constant 0 is the mean of normalised images."""


class DeviceAugment:
    """Crop, flip and RandAugment as drawn for each sample (``augment.device``); normalise; RandomErasing, Mixup / CutMix
    (timm's), with random numbers that follow from a key.

    timm draws from Python's and NumPy's global generators, which this class seeds for each micro-batch, and the
    colours of erased rectangles from the device's generator, which the caller seeds.
    """

    def __init__(
        self,
        cfg: AugmentConfig,
        loss: LossConfig,
        normalise: Normalise,
        index: DataIndex,
        device: torch.device,
        size: Size,
    ) -> None:
        self._operations = DeviceOperations(cfg, size, normalise.mean_colour) if cfg.device else None
        if self._operations is not None:
            self._operations.prepare(device)
        self._normalise = normalise
        self._erase = _erasing(cfg, device) if cfg.erasing else None
        self._mix = Mixing(cfg, loss, index, min(size)) if cfg.mixup or cfg.cutmix else None

    def __call__(
        self, images_BHWC: Tensor, labels: Tensor, key: int, *drawn: Tensor, mixing: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return normalised images [B, C, H, W], and targets: float [B, K] if images are mixed, else unchanged.

        Args:
            key: of the random numbers of this micro-batch.
            drawn: with ``augment.device``, the result of ``packed_draws.packed``.
            mixing: False after ``augment.mix_off_epoch``.
        """
        if self._operations is not None:
            images_BHWC = self._operations(images_BHWC, *drawn)
        images = self._normalise(images_BHWC)
        if self._erase is not None:
            random.seed(fold_in(key, "erase"))
            images = self._erase(images)
        if self._mix is None:
            return images, labels
        return self._mix(images, labels, fold_in(key, "mix"), mixing)


def _erasing(cfg: AugmentConfig, device: torch.device) -> RandomErasing:
    return RandomErasing(
        cfg.erasing,
        min_area=cfg.erasing_scale[0],
        max_area=cfg.erasing_scale[1],
        min_aspect=cfg.erasing_ratio[0],
        max_aspect=cfg.erasing_ratio[1],
        mode=FILLS[cfg.erasing_fill],
        max_count=cfg.erasing_count,
        device=device,
    )
