"""The size of training images, by epoch (``augment.size_schedule``): a function of the epoch, so that nothing is stored.

Small images first, as in fastai's progressive resizing (Howard et al., DAWNBench 2018) and EfficientNetV2 (Tan and Le, 2021).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from dist_train.config.types import Size, height_and_width, in_pixels
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.sections.augment import AugmentConfig

Value = TypeVar("Value")


def training_sizes(cfg: "AugmentConfig", last: Size) -> dict[int, Size]:
    """Return the size of training images by the first epoch that has it.

    Args:
        last: the size of the model's input, with which training ends and by which it is evaluated.

    Raises:
        ConfigError: the schedule ends with another size.
    """
    if cfg.size_schedule is None:
        return {0: last}
    sizes = {epoch: height_and_width(size) for epoch, size in cfg.size_schedule.items()}
    end = sizes[max(sizes)]
    if end != last:
        raise ConfigError(
            f"`augment.size_schedule` ends with {in_pixels(end)}, but images of the model (`data.image_size`) have "
            f"{in_pixels(last)}: make both equal"
        )
    return sizes


def largest_size(cfg: "AugmentConfig", last: Size) -> Size:
    """Return the size of the largest training images; for ``last`` see ``training_sizes``."""
    return max(training_sizes(cfg, last).values(), key=math.prod)


def of_epoch(values: Mapping[int, Value], epoch: int) -> Value:
    """Return what holds in an epoch, of values by their first epoch."""
    return values[max(first for first in values if first <= epoch)]
