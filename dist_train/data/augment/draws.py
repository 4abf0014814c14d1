"""The random numbers of a training sample: crop box, flip, RandAugment's operations.

They follow only from a key and the size of the image. The CPU path (on_cpu.py) and the device path (on_device.py) apply
the same ones. They equal torchvision's: its RandomResizedCrop and RandAugment draw the same from a generator in the same
state.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from dist_train.config.sections.augment import AugmentConfig
    from dist_train.config.types import Size
    from dist_train.data.decoding.picture import Box

OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""RandAugment's operations (Cubuk et al., 2019), in torchvision's order."""

SIGNED = frozenset(OPERATIONS[1:10])
"""Operations whose magnitude is negated for every other image."""

CODES = tuple(
    2 * number + negative for number, name in enumerate(OPERATIONS) for negative in range(1 + (name in SIGNED))
)
"""The code of operation i is 2 i, or 2 i + 1 with its magnitude negated."""

LEVELS = 31
CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Draws:
    """What happens to one sample, in this order.

    Attributes:
        box: the part that a random crop keeps; None without random crops. With ``random`` a part of the resized image with
            its margin.
        flip: left and right are exchanged.
        codes: of the operations of all RandAugments, in their order.
    """

    box: "Box | None"
    flip: bool
    codes: tuple[int, ...]


class Drawer:
    """Draws for the samples of a data set. It takes 15 to 40 us per sample.

    Args:
        size: H and W of the model's input, in pixels; the draws depend on it with ``augment.crop: random`` only.
        widened: from ``size`` and the height and width of an image to those of the image from which ``random`` cuts a part
            (``frame.with_margin``).
    """

    def __init__(
        self, cfg: "AugmentConfig", size: "Size" = (1, 1), widened: "Callable[[Size, int, int], Size] | None" = None
    ) -> None:
        self._cfg, self._size, self._widened = cfg, size, widened
        self._generator = torch.Generator()
        self._chosen = cfg.randaugments()
        self._log_ratio = torch.log(torch.tensor(cfg.crop_ratio)).tolist()

    def __call__(self, key: int, height: int, width: int) -> Draws:
        """Return the draws for a sample of ``height`` x ``width`` pixels, as a function of ``key``."""
        self._generator.manual_seed(key)
        box = None
        if self._cfg.crop == "random_resized":
            box = self._box(height, width)
        elif self._cfg.crop == "random":
            assert self._widened is not None
            box = self._corner(*self._widened(self._size, height, width))
        flip = self._uniform() < self._cfg.hflip
        return Draws(box, flip, tuple(code for options, p in self._chosen for code in self._codes(options.num_ops, p)))

    def _corner(self, height: int, width: int) -> "Box":
        """Return a part of the model's size, as torchvision's RandomCrop draws it."""
        top = self._below(height - self._size[0] + 1)
        return top, self._below(width - self._size[1] + 1), *self._size

    def _uniform(self) -> float:
        return torch.rand((), generator=self._generator).item()

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self._generator))

    def _codes(self, count: int, p: float) -> list[int]:
        """Return codes of ``count`` operations; of the identity where RandAugment is not applied."""
        return [self._code() for _ in range(count)] if p == 1 or self._uniform() < p else [0] * count

    def _code(self) -> int:
        operation = self._below(len(OPERATIONS))
        return 2 * operation + (OPERATIONS[operation] in SIGNED and self._uniform() <= 0.5)

    def _box(self, height: int, width: int) -> "Box":
        """Return a part of random area and shape; after ten that do not fit, the largest middle part of allowed shape.

        It has at least one pixel. Torchvision's may have none, for lines of one pixel and unusual ratios.
        """
        low, high = self._cfg.crop_scale
        for _ in range(CROP_ATTEMPTS):
            area = height * width * torch.empty(1).uniform_(low, high, generator=self._generator).item()
            ratio = torch.exp(torch.empty(1).uniform_(*self._log_ratio, generator=self._generator)).item()
            box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < box_width <= width and 0 < box_height <= height:
                top, left = self._below(height - box_height + 1), self._below(width - box_width + 1)
                return top, left, box_height, box_width
        narrowest, widest = self._cfg.crop_ratio
        box_width, box_height = width, height
        if width / height < narrowest:
            box_height = max(1, round(width / narrowest))
        elif width / height > widest:
            box_width = max(1, round(height * widest))
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def operation(code: int) -> str:
    """Return the name of the operation with this code."""
    return OPERATIONS[code // 2]


def magnitude(code: int, level: int, height: int, width: int) -> float:
    """Return the signed magnitude, in the operation's own unit, for an image of ``height`` x ``width`` pixels.

    Args:
        level: `magnitude` of RandAugment, 0 to 30.
    """
    size = _magnitudes(level, height, width).get(operation(code), 0.0)
    return -size if code % 2 else size


@lru_cache(maxsize=8)
def _magnitudes(level: int, height: int, width: int) -> dict[str, float]:
    def scaled(largest: float, start: float = 0.0) -> float:
        return float(torch.linspace(start, largest, LEVELS)[level])  # in float32, as torchvision does

    return {
        "ShearX": scaled(0.3),
        "ShearY": scaled(0.3),
        "TranslateX": scaled(150 / 331 * width),
        "TranslateY": scaled(150 / 331 * height),
        "Rotate": scaled(30.0),
        "Brightness": scaled(0.9),
        "Color": scaled(0.9),
        "Contrast": scaled(0.9),
        "Sharpness": scaled(0.9),
        "Posterize": float((8 - torch.arange(LEVELS) / ((LEVELS - 1) / 4)).round().int()[level]),
        "Solarize": scaled(0.0, start=1.0),
    }
