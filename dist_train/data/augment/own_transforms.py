"""Transforms of the user's own (``augment.transforms``): on the CPU, after crop, flip and RandAugment."""

from collections.abc import Callable

import numpy as np

from dist_train.config.sections.augment import AugmentConfig, TransformConfig
from dist_train.config.user_code import load_callable
from dist_train.data.decoding.picture import RGB, Picture, Transform
from dist_train.errors import ConfigError
from dist_train.seeding import fold_in

OwnTransform = Callable[[RGB, np.random.Generator], RGB]
"""From an image uint8 [S, S, 3] to an image uint8 [S, S, 3]. All random numbers must come from the generator."""


def with_own(transform: Transform, cfg: AugmentConfig, size: int) -> Transform:
    """Return ``transform`` followed by ``augment.transforms``.

    Raises:
        ConfigError: one of them cannot be made, or returns something else than an image.
    """
    parts = own_transforms(cfg, size)
    if not parts:
        return transform

    def followed(picture: Picture, key: int, target: RGB) -> None:
        transform(picture, key, target)
        random = np.random.default_rng(fold_in(key, "own"))
        for part in parts:
            target[...] = part(target, random)

    return followed


def own_transforms(cfg: AugmentConfig, size: int) -> list[OwnTransform]:
    """Make the transforms that ``augment.transforms`` names, and try each on a black image of ``size`` x ``size`` pixels.

    Raises:
        ConfigError: there is no such class, it does not take these options, or it does not return an image.
    """
    return [_made(entry, size) for entry in cfg.transforms]


def _made(entry: TransformConfig, size: int) -> OwnTransform:
    kind = load_callable(entry.name, "augment.transforms")
    try:
        transform: OwnTransform = kind(**entry.options)
    except TypeError as error:
        raise ConfigError(f"`augment.transforms` ({entry.name}) does not take its `options`: {error}") from error
    found = transform(np.zeros((size, size, 3), dtype=np.uint8), np.random.default_rng(0))
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != (size, size, 3):
        was = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ConfigError(
            f"`augment.transforms` ({entry.name}) returns {was}; it must return an array uint8 [{size}, {size}, 3]"
        )
    return transform
