"""Mixup and CutMix of a batch on its device, by timm."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from timm.data.mixup import Mixup
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dist_train.config.sections.augment import AugmentConfig
from dist_train.config.sections.loss import LossConfig
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.data.index import DataIndex


class Mixing:
    """Mixes the images of a batch, and their targets.

    Raises:
        ConfigError: the installed timm cannot mix sets of labels, or ``augment.cutmix_minmax`` leaves no rectangle.
    """

    def __init__(self, cfg: AugmentConfig, loss: LossConfig, index: "DataIndex", size: int) -> None:
        _check_rectangle(cfg, size)
        of_sets = index.task == "multilabel"
        if of_sets and "multi_label" not in inspect.signature(Mixup).parameters:
            raise ConfigError(
                f"`augment.mixup` ({cfg.mixup:g}) and `augment.cutmix` ({cfg.cutmix:g}) need timm 1.0.31 or later where "
                f"`data.task` is multilabel, and timm {timm.__version__} is installed; upgrade it, or set both to 0"
            )
        self._mix = Mixup(
            mixup_alpha=cfg.mixup,
            cutmix_alpha=cfg.cutmix,
            cutmix_minmax=cfg.cutmix_minmax,
            prob=cfg.mix_prob,
            switch_prob=cfg.mix_switch_prob,
            mode=cfg.mix_mode,
            label_smoothing=loss.label_smoothing,
            num_classes=index.outputs,
            **({"multi_label": True} if of_sets else {}),
        )

    def __call__(self, images: Tensor, labels: Tensor, key: int, mixing: bool) -> tuple[Tensor, Tensor]:
        """Return mixed images [B, 3, S, S], and targets, float [B, K].

        Args:
            mixing: False after ``augment.mix_off_epoch``: the images stay as they are, and targets are still float [B, K].
        """
        np.random.seed(key & 0xFFFFFFFF)
        self._mix.mixup_enabled = mixing
        with CopiesWithoutWaiting():
            return self._mix(images, labels)  # type: ignore[no-any-return]


class CopiesWithoutWaiting(TorchFunctionMode):
    """Has ``torch.tensor(..., device=gpu)`` copy from pinned memory: else the host would wait for the GPU.

    timm makes a tensor of the shares of each batch so, with ``mix_mode`` pair and elem.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = torch.device(kwargs.get("device") or "cpu")
        if func is not torch.tensor or device.type != "cuda":
            return func(*args, **kwargs)
        return func(*args, **kwargs | {"device": "cpu"}).pin_memory().to(device, non_blocking=True)


def _check_rectangle(cfg: AugmentConfig, size: int) -> None:
    """Raise ConfigError if timm would find no whole number of pixels between the bounds."""
    if cfg.cutmix_minmax is not None:
        low, high = (int(size * share) for share in cfg.cutmix_minmax)
        if low >= high:
            raise ConfigError(
                f"`augment.cutmix_minmax` ({list(cfg.cutmix_minmax)}): from {low} to less than {high} pixels of {size}, which is "
                "no length at all; choose bounds further apart"
            )
