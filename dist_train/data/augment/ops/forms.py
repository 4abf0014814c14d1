"""The forms in which operations take an image: each becomes a function from pixels to pixels."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from dist_train.data.augment.randaugment_cpu import Step, run_steps
from dist_train.data.decoding.picture import RGB, Colour
from dist_train.seeding import fold_in

if TYPE_CHECKING:
    from dist_train.config.sections.augment import AugmentConfig
    from dist_train.config.types import Size


@dataclass(frozen=True)
class Place:
    """What an operation may need to know of the run.

    Attributes:
        height, width: of the images, in pixels.
        colour: the mean colour of the data.
        interpolation: ``augment.interpolation``.
        bits, channels: ``data.bits`` and ``data.channels``; only the user's own operations see others than 8 and 3.
    """

    height: int
    width: int
    colour: Colour
    interpolation: str
    bits: int = 8
    channels: int = 3

    @classmethod
    def of(cls, cfg: "AugmentConfig", size: "Size", colour: Colour, bits: int = 8, channels: int = 3) -> "Place":
        return cls(*size, colour, cfg.interpolation, bits, channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return H, W and C of the images."""
        return self.height, self.width, self.channels


@dataclass
class Sample:
    """What operations may draw from, besides the generators of Python, NumPy, torch and OpenCV, which are seeded too.

    Attributes:
        key: of the sample's random numbers.
        codes: of the RandAugment operations that were drawn for it.
    """

    key: int
    codes: tuple[int, ...] = ()

    @cached_property
    def generator(self) -> np.random.Generator:
        """Return the generator that the user's own transforms share."""
        return np.random.default_rng(fold_in(self.key, "own"))


Form = Callable[[RGB, Sample], Any]
"""From pixels uint8 [H, W, 3] to pixels of the same shape and type, as the caller checks."""


def on_pil(op: Callable[[Image.Image], Image.Image]) -> Form:
    """Return an operation on PIL images in this form."""
    return lambda pixels, _: np.asarray(op(Image.fromarray(pixels)))


def on_tensor(op: Callable[[torch.Tensor], torch.Tensor]) -> Form:
    """Return a transform of torchvision: it gets a tensor, uint8 [3, H, W]."""

    def applied(pixels: RGB, _: Sample) -> Any:
        found = op(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
        return found.permute(1, 2, 0).numpy() if isinstance(found, torch.Tensor) and found.ndim == 3 else found

    return applied


def on_array(op: Callable[[RGB, np.random.Generator], RGB], number: int) -> Form:
    """Return a transform of the user's: it gets an array, uint8 [H, W, 3], and a generator.

    Args:
        number: its place in ``augment.ops``.
    """

    def applied(pixels: RGB, sample: Sample) -> RGB:
        _seed(op, sample, number)
        return op(pixels, sample.generator)

    return applied


def of_albumentations(op: Any, number: int) -> Form:
    """Return a transform of albumentations: it takes ``image=`` and returns a dict."""

    def applied(pixels: RGB, sample: Sample) -> Any:
        _seed(op, sample, number)
        return op(image=pixels)["image"]

    return applied


def _seed(op: Any, sample: Sample, number: int) -> None:
    """Seed an object that keeps generators of its own, as those of albumentations do."""
    if hasattr(op, "set_random_seed"):
        op.set_random_seed(fold_in(sample.key, "op", number) & 0xFFFFFFFF)


def of_randaugment(known: dict[int, Step | None], first: int, count: int) -> Form:
    """Return a RandAugment that does not stand first: it applies codes ``first`` to ``first + count - 1`` of a sample."""

    def applied(pixels: RGB, sample: Sample) -> RGB:
        found = np.empty_like(pixels)
        steps = [step for code in sample.codes[first : first + count] if (step := known[code]) is not None]
        run_steps(steps, pixels, found)
        return found

    return applied


def form_of(op: Any, number: int) -> Form:
    """Return an object of a class that the config names, in the form of its library."""
    libraries = {kind.__module__.partition(".")[0] for kind in inspect.getmro(type(op))}
    if "albumentations" in libraries:
        return of_albumentations(op, number)
    return on_tensor(op) if "torchvision" in libraries else on_array(op, number)


def sometimes(form: Form, p: float) -> Form:
    """Return ``form`` applied with probability ``p``: drawn as torchvision's ``RandomApply`` does."""
    if p == 1:
        return form
    return lambda pixels, sample: form(pixels, sample) if torch.rand(1) < p else pixels
