"""Test-time augmentation (``eval.tta``): the mean over several views of an image.

Views are made from the model's input on its device: crops as in torchvision's ``five_crop``, sizes by its antialiased bilinear
``resize``, mirror images. Every crop is taken in every size, and each of them also mirrored.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from dist_train.config.choice_table import Task
from dist_train.config.sections.eval import TtaConfig
from dist_train.errors import ConfigError
from dist_train.evaluation.activation import activated, mean_outputs


class Views(nn.Module):
    """A model that is asked about several views of an image; its outputs stand for the mean of their probabilities."""

    def __init__(self, module: nn.Module, tta: TtaConfig, task: Task) -> None:
        super().__init__()
        self._module, self._tta, self._task = module, tta, task

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs float32 [B, K] for images float32 [B, C, H, W]."""
        return mean_outputs(
            self._task, [activated(self._task, self._module(view)) for view in views(images, self._tta)]
        )


def views(images_BCHW: Tensor, tta: TtaConfig) -> Iterator[Tensor]:
    """Yield the views of a batch, float32 [B, C, h, w] each; the batch itself comes first."""
    for part in [images_BCHW, *_crops(images_BCHW, tta.crops)]:
        for side in [None, *tta.sizes]:
            view = part if side is None else _resized(part, _of_side(part, side))
            yield view
            if tta.flip:
                yield F.horizontal_flip(view)


def _crops(images_BCHW: Tensor, share: float | None) -> list[Tensor]:
    """Return the four corners and the centre, resized to the size of the images."""
    if share is None:
        return []
    height, width = images_BCHW.shape[-2:]
    size = [max(1, round(height * share)), max(1, round(width * share))]
    return [_resized(crop, [height, width]) for crop in F.five_crop(images_BCHW, size)]


def _of_side(images_BCHW: Tensor, side: int) -> list[int]:
    """Return height and width with ``side`` as the shorter one, in the proportions of the images."""
    height, width = images_BCHW.shape[-2:]
    return [round(side * length / min(height, width)) for length in (height, width)]


def _resized(images_BCHW: Tensor, size: list[int]) -> Tensor:
    resized: Tensor = F.resize(images_BCHW, size, antialias=True)
    return resized


def described(tta: TtaConfig | None) -> dict[str, Any] | None:
    """Return the views as plain values, for a file."""
    return None if tta is None else tta.model_dump(mode="json")


def with_views(module: nn.Module, tta: TtaConfig | None, task: Task, sample: Tensor) -> nn.Module:
    """Return the model, asked about several views if ``tta`` says so.

    Args:
        sample: float32 [1, C, H, W] on the model's device: an input, to find out whether it takes the other sizes.

    Raises:
        ConfigError: the model cannot take an image of another size.
    """
    if tta is None:
        return module
    for side in tta.sizes:
        try:
            with torch.no_grad():
                module(_resized(sample, _of_side(sample, side)))
        except Exception as error:  # noqa: BLE001  each model says it in its own way
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"`eval.tta.sizes` ({side}): the model takes images of {tuple(sample.shape[-2:])} only ({reason}); remove the size"
            ) from None
    return Views(module, tta, task).eval()
