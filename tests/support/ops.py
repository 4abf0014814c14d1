"""Entries of ``augment.ops`` for tests, and operations of a user's own: right ones, and ones that no run may use."""

import itertools
import os
import random
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2

from dist_train.config.ops.table import OPS
from dist_train.config.sections.augment import OpConfig
from dist_train.config.yaml_text import tuples

HERE = "tests.support.ops"

FEWEST: dict[str, dict[str, Any]] = {
    "rotation": {"degrees": 30},
    "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "sharpness": {"sharpness_factor": 2.0},
    "posterize": {"bits": 3},
    "timm": {"policy": "rand-m9-mstd0.5-inc1"},
}
"""Operations that need options."""


def entry(name: str, **keys: Any) -> dict[str, Any]:
    """An entry with the fewest options."""
    return {"name": name, **FEWEST.get(name, {}), **keys}


def ops(*entries: Any) -> list[OpConfig]:
    return [OpConfig.model_validate(tuples(one)) for one in entries]


EVERY: list[Any] = [
    *(entry(name) for name in OPS.rows if name not in ("augmix", "three_augment", "auto_augment")),
    {"name": f"{HERE}:Noise", "p": 0.5},
    {"name": "torchvision.transforms.v2:RandomPhotometricDistort", "p": 0.5},
]
"""Nearly all built-in operations, one of one's own, one of torchvision's; the others only cost more time."""


class Noise:
    """Draws from each generator there is."""

    def __call__(self, image: Any, generator: np.random.Generator) -> Any:
        drawn = (generator.integers(9), random.randrange(9), np.random.randint(9), int(torch.randint(9, ())))
        return image + np.uint8(sum(drawn))


class Unseeded(Noise):
    """Draws from a generator that nobody seeds."""

    def __call__(self, image: Any, _: Any) -> Any:
        return np.random.default_rng().integers(0, 256, image.shape, dtype=np.uint8)


class Counts:
    """Remembers how many images it has seen."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def __call__(self, image: Any, _: Any) -> Any:
        return image + np.uint8(next(self.count) % 256)


class Process:
    """Another one in each process."""

    def __init__(self, by: str) -> None:
        self.by = hash(by) % 251 if by != "pid" else os.getpid() % 251

    def __call__(self, image: Any, _: Any) -> Any:
        return image + np.uint8(self.by)


class Invert(v2.Transform):
    """A transform of one's own that is torchvision's by its base class."""

    def transform(self, image: Any, params: dict[str, Any]) -> Any:
        return 255 - image


class Wrong:
    """Returns something else than an image: at once, or for images that are not black."""

    def __init__(self, late: bool = False) -> None:
        self.late = late

    def __call__(self, image: Any, _: Any) -> Any:
        return image if self.late and not image.any() else image[:2].astype(np.float32)


class Placed:
    """Takes ``p`` itself."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Any, generator: np.random.Generator) -> Any:
        return 255 - image if generator.random() < self.p else image
