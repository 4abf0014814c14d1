"""The section `augment`: crop, flip, operations, erasing, Mixup and CutMix."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from dist_train.config.ops.entry import written_out
from dist_train.config.ops.options import RandAugment
from dist_train.config.ops.policies import by_name
from dist_train.config.ops.table import OPS
from dist_train.config.types import (
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    Share,
    image_size,
)


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]} is more than {bounds[1]}: write the smaller bound first")
    return bounds


def _size_schedule(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} must be epochs and sizes, such as {{0: 128, 10: 160, 20: 224}}")
    stages = {int(key) if isinstance(key, str) and key.isdecimal() else key: size for key, size in value.items()}
    epochs = list(stages)
    if any(type(epoch) is not int for epoch in epochs) or epochs[:1] != [0] or epochs != sorted(epochs):
        raise ValueError(f"{epochs} must be rising epochs that begin with 0, such as {{0: 128, 10: 160, 20: 224}}")
    for size in stages.values():
        image_size(size, ())
    return stages


class OpConfig(Section):
    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})  # options beside `name`

    name: Annotated[str, OPS]
    """A built-in operation, a policy in timm's words, or your own or a library's `package.module:Class`."""
    p: Probability | None = None
    """How often it is applied. null: as its library does. For a class that takes `p`, it is that one."""
    options: dict[str, Any] = {}
    """Options of the operation, or keyword arguments of the class; they may also be written beside `name`."""

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        entry = by_name(written_out(value))
        row = OPS.rows.get(entry["name"]) if isinstance(entry.get("name"), str) else None
        if row is None or not isinstance(entry["options"], dict):
            return entry
        try:
            options = row.options.model_validate(entry["options"])
        except ValidationError as error:
            about = {"name": entry["name"], "errors": error.errors(), "section": row.options}
            raise PydanticCustomError("options", "has wrong options", about) from None
        p = row.p if entry.get("p") is None else entry["p"]
        return entry | {"p": p, "options": options.model_dump()}


def _or_names(schema: dict[str, Any]) -> None:
    """Allow text for an entry of a list, in its JSON schema."""
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


class AugmentConfig(Section):
    device: bool = False
    """Run crop, flip and RandAugment on the device that trains, not in the loader; all images must have the same size."""
    crop: Literal["center", "random_resized", "random", "squash", "pad"] = "center"
    """center: resize the shorter side, crop the centre. random_resized: Inception-style random crop. random: as center,
    but with a margin of 4 mirrored pixels, from which a random part is cut. squash: resize the
    whole image to the input's shape. pad: resize the longer side, and add margins of the mean colour."""
    size_schedule: Annotated[dict[NonNegativeInt, ImageSize] | None, BeforeValidator(_size_schedule)] = None
    """Size of training images from an epoch on, such as `{0: 128, 10: 160, 20: 224}`; the last must be `data.image_size`."""
    crop_scale: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.08, 1.0)
    """Range of the share of the image area that random_resized keeps."""
    crop_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.75, 4 / 3)
    """Range of the aspect ratio (width / height) of that crop."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    """Interpolation when training images are resized; for evaluation see `eval.interpolation`."""
    hflip: Probability = 0.5
    """Probability of a horizontal flip."""
    ops: Annotated[tuple[OpConfig, ...], Field(json_schema_extra=_or_names)] = ()
    """What happens to each training image after crop and flip, in this order: built-in operations, policies in timm's
    words, your own classes and those of torchvision and albumentations."""
    repeats: PositiveInt = 1
    """Repeated augmentation: an epoch of the same length shows a part of the images, each this many times."""
    erasing: Probability = 0.0
    """Probability that a random rectangle of an image is erased."""
    erasing_count: PositiveInt = 1
    """Largest number of rectangles in an image that is erased; the area is divided among them."""
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
    mix_mode: Literal["batch", "pair", "elem"] = "batch"
    """batch: one share for a whole batch. pair: one for each pair of images. elem: one for each image."""
    mix_off_epoch: Annotated[int, Field(ge=1)] | None = None
    """No Mixup and CutMix from this epoch on; the first is 0."""
    cutmix_minmax: Annotated[tuple[Share, Share], AfterValidator(_rising)] | None = None
    """Range of the sides of CutMix's rectangle, as shares of the image's, in place of the distribution of `cutmix`."""

    def randaugments(self) -> list[tuple[RandAugment, float]]:
        """Return the options of each ``randaugment`` of ``ops``, and how often it is applied, 0 to 1."""
        return [(RandAugment(**op.options), op.p or 0.0) for op in self.ops if op.name == "randaugment"]
