"""The options of each built-in operation of ``augment.ops``, named as its library names them. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dist_train.config.ops.policies import Policy
from dist_train.config.types import Level, NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section

Fill = tuple[Level, Level, Level]
"""A colour: RGB, 0 to 255."""

Interpolation = Literal["nearest", "bilinear"]


def _around(centre: float, lowest: float | None = None) -> BeforeValidator:
    """Return a validator that reads a number d as the range from ``centre`` - d to ``centre`` + d."""

    def pair(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if value < 0:
            raise ValueError(f"{value:g} is negative: write a number from 0 on, or a range [low, high]")
        low = centre - value
        return (low if lowest is None else max(lowest, low), centre + value)

    return BeforeValidator(pair)


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]:g} is more than {bounds[1]:g}: write the smaller bound first")
    return bounds


class Rising:
    """Marks a range whose first number must not be greater than its second."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(_rising, handler(source))


Degrees = Annotated[tuple[float, float], Rising(), _around(0)]
Factor = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], Rising(), _around(1, lowest=0)]
HalfTurn = Annotated[float, Field(ge=-0.5, le=0.5)]
Hue = Annotated[tuple[HalfTurn, HalfTurn], Rising(), _around(0)]


class Nothing(Section):
    """No options."""


class Rotation(Section):
    degrees: Degrees
    """Range of angles; 15 means -15 to 15."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "nearest"
    """Interpolation of the rotated image."""
    fill: Fill = (0, 0, 0)
    """Colour of the corners that are left empty."""


class Affine(Section):
    degrees: Degrees = (0.0, 0.0)
    """Range of angles; 15 means -15 to 15."""
    translate: tuple[Probability, Probability] = (0.0, 0.0)
    """Largest shift to the sides, and up or down, as shares of the width and of the height."""
    scale: Annotated[tuple[PositiveFloat, PositiveFloat], Rising()] = (1.0, 1.0)
    """Range of the scale."""
    shear: Degrees = (0.0, 0.0)
    """Range of the shear along the width, in degrees; 10 means -10 to 10."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "nearest"
    """Interpolation of the new image."""
    fill: Fill = (0, 0, 0)
    """Colour of what is left empty."""


class Perspective(Section):
    distortion_scale: Probability = 0.5
    """How far the corners move at most, as a share of half a side."""
    interpolation: Interpolation = "bilinear"
    """Interpolation of the new image."""
    fill: Fill = (0, 0, 0)
    """Colour of what is left empty."""


class Elastic(Section):
    alpha: NonNegativeFloat = 50.0
    """Size of the displacements, in pixels before they are smoothed."""
    sigma: PositiveFloat = 5.0
    """Standard deviation of the smoothing of displacements, in pixels."""
    interpolation: Interpolation = "bilinear"
    """Interpolation of the new image."""
    fill: Fill = (0, 0, 0)
    """Colour of what is left empty."""


class ColorJitter(Section):
    brightness: Factor = (1.0, 1.0)
    """Range of the factor; 0.4 means 0.6 to 1.4."""
    contrast: Factor = (1.0, 1.0)
    """The same."""
    saturation: Factor = (1.0, 1.0)
    """The same."""
    hue: Hue = (0.0, 0.0)
    """Range of the shift, in turns of the colour circle; 0.1 means -0.1 to 0.1."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> "ColorJitter":
        if not self.model_fields_set:
            raise ValueError("give at least one of brightness, contrast, saturation and hue")
        return self


class Blur(Section):
    kernel_size: PositiveInt = 23
    """Side of the Gaussian kernel, in pixels; odd."""
    sigma: Annotated[tuple[PositiveFloat, PositiveFloat], Rising()] = (0.1, 2.0)
    """Range of the standard deviation, in pixels."""

    @model_validator(mode="after")
    def _has_a_centre(self) -> "Blur":
        if self.kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` ({self.kernel_size}) must be odd; use {self.kernel_size + 1}")
        return self


class Sharpness(Section):
    sharpness_factor: NonNegativeFloat
    """0 is a blurred image, 1 the image, 2 twice as sharp."""


class Solarize(Section):
    threshold: Level = 128
    """Values from this one on are inverted."""


class Posterize(Section):
    bits: Annotated[int, Field(ge=1, le=8)]
    """Number of bits that are kept of each value."""


class TrivialAugmentWide(Section):
    num_magnitude_bins: Annotated[int, Field(ge=2)] = 31
    """Number of magnitudes of an operation."""
    interpolation: Interpolation = "nearest"
    """Interpolation of sheared, shifted and rotated images."""
    fill: Fill = (0, 0, 0)
    """Colour of what is left empty."""


class AutoAugment(Section):
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    """The data set on which the policy was found."""
    interpolation: Interpolation = "nearest"
    """Interpolation of sheared, shifted and rotated images."""
    fill: Fill = (0, 0, 0)
    """Colour of what is left empty."""


class AugMix(Section):
    severity: Annotated[int, Field(ge=1, le=10)] = 3
    """Strength of the operations."""
    mixture_width: PositiveInt = 3
    """Number of chains that are mixed."""
    chain_depth: Annotated[int, Field(ge=-1)] = -1
    """Operations in a chain; -1: 1 to 3 at random."""
    alpha: PositiveFloat = 1.0
    """Of the Beta and Dirichlet distributions of the shares."""
    all_ops: bool = True
    """Also brightness, contrast, colour and sharpness."""
    interpolation: Interpolation = "bilinear"
    """Interpolation of sheared, shifted and rotated images."""
    fill: Fill | None = None
    """Colour of what is left empty; null: black, but edges are darkened less than with [0, 0, 0]."""


class RandAugment(Section):
    num_ops: PositiveInt = 2
    """Number of random operations on each image."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the operations, 0 to 30."""
    interpolation: Interpolation = "nearest"
    """Interpolation of sheared, shifted and rotated images; bilinear is slower."""
    fill: Fill = (0, 0, 0)
    """Colour of the area that a sheared, shifted or rotated image leaves empty; RGB, 0 to 255."""


PolicyInterpolation = Literal["bicubic", "bilinear", "nearest", "random"]


class Timm(Section):
    policy: Policy
    """A policy in timm's words, such as rand-m9-mstd0.5-inc1."""
    interpolation: PolicyInterpolation | None = None
    """Interpolation of sheared, shifted and rotated images. null: `augment.interpolation`. random: bilinear or bicubic,
    as timm's training script does unless it gets another one."""
