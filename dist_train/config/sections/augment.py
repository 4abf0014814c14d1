"""The section `augment`: crop, flip, RandAugment, erasing, Mixup and CutMix."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from dist_train.config.types import (
    Level,
    NonNegativeFloat,
    OwnClass,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    Share,
)


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]} is more than {bounds[1]}: write the smaller bound first")
    return bounds


class RandAugmentConfig(Section):
    num_ops: PositiveInt = 2
    """Number of random operations on each image."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the operations, 0 to 30."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """Interpolation of sheared, shifted and rotated images; bilinear is slower."""
    fill: tuple[Level, Level, Level] = (0, 0, 0)
    """Colour of the area that a sheared, shifted or rotated image leaves empty; RGB, 0 to 255."""


class TransformConfig(Section):
    name: OwnClass
    """`package.module:Class`: its instance maps an image, uint8 [S, S, 3], and a `numpy.random.Generator` to an image."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class."""


class AugmentConfig(Section):
    device: bool = False
    """Run crop, flip and RandAugment on the device that trains, not in the loader; all images must have the same size."""
    crop: Literal["center", "random_resized", "squash", "pad"] = "center"
    """center: resize the shorter side, crop the centre. random_resized: Inception-style random crop. squash: resize the
    whole image to a square. pad: resize the longer side, and add margins of the mean colour."""
    crop_scale: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.08, 1.0)
    """Range of the share of the image area that random_resized keeps."""
    crop_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.75, 4 / 3)
    """Range of the aspect ratio (width / height) of that crop."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    """Interpolation when training images are resized; evaluation always uses bicubic."""
    hflip: Probability = 0.5
    """Probability of a horizontal flip."""
    randaugment: RandAugmentConfig | None = None
    """Off if not given; `{}` turns it on with the defaults."""
    transforms: tuple[TransformConfig, ...] = ()
    """Your own transforms of training images, on the CPU, after the built-in ones."""
    erasing: Probability = 0.0
    """Probability that a random rectangle of an image is erased."""
    erasing_scale: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.02, 1 / 3)
    """Range of the share of the image area that is erased."""
    erasing_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.3, 10 / 3)
    """Range of the aspect ratio (height / width) of the rectangle."""
    erasing_fill: Literal["mean", "colour", "noise"] = "mean"
    """mean: the data's mean colour. colour: one random colour. noise: a random colour for every pixel."""
    mixup: NonNegativeFloat = 0.0
    """Alpha of Mixup's Beta distribution; 0 turns Mixup off."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha of CutMix's Beta distribution; 0 turns CutMix off."""
    mix_prob: Probability = 1.0
    """Probability that Mixup or CutMix is applied to a batch."""
    mix_switch_prob: Probability = 0.5
    """Probability of CutMix instead of Mixup, if both are on."""
