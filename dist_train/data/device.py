"""What happens to a batch on the device: normalise, erase, mix."""

import random

import numpy as np
import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from dist_train.config import AugmentConfig, LossConfig
from dist_train.model import Network
from dist_train.plan import fold_in


class Normalise:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] with the model's mean and standard deviation.

    The result keeps the layout of its input, which is the one that channels-last models want.
    """

    def __init__(self, network: Network, device: torch.device, channels_last: bool) -> None:
        self._mean = torch.tensor(network.mean, device=device).mul(255).view(1, 3, 1, 1)
        self._scale = torch.tensor(network.std, device=device).mul(255).reciprocal().view(1, 3, 1, 1)
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        images = images_BHWC.permute(0, 3, 1, 2).float()
        return images.sub_(self._mean).mul_(self._scale).contiguous(memory_format=self._format)


class DeviceAugment:
    """Normalise, RandomErasing, Mixup / CutMix (timm's), with random numbers that follow from a key.

    timm draws from Python's and NumPy's global generators, so these are seeded for each micro-batch.
    """

    def __init__(
        self, cfg: AugmentConfig, loss: LossConfig, normalise: Normalise, num_classes: int, device: torch.device
    ) -> None:
        self._normalise = normalise
        self._erase = RandomErasing(cfg.erasing, mode="const", device=device) if cfg.erasing else None
        self._mix = None
        if cfg.mixup or cfg.cutmix:
            self._mix = Mixup(
                mixup_alpha=cfg.mixup,
                cutmix_alpha=cfg.cutmix,
                prob=cfg.mix_prob,
                switch_prob=cfg.mix_switch_prob,
                label_smoothing=loss.label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, images_BHWC: Tensor, labels_B: Tensor, key: int) -> tuple[Tensor, Tensor]:
        """Normalised images [B, 3, H, W], and labels: int64 [B], or float [B, K] where images are mixed."""
        images = self._normalise(images_BHWC)
        if self._erase is not None:
            random.seed(fold_in(key, "erase"))
            images = self._erase(images)
        if self._mix is None:
            return images, labels_B
        np.random.seed(fold_in(key, "mix") & 0xFFFFFFFF)
        return self._mix(images, labels_B)  # type: ignore[no-any-return]
