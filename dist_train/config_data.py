"""The sections that decide what the model sees: data, augment."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from dist_train.config_types import (
    FilePath,
    Fraction,
    Level,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
    Share,
)
from dist_train.tasks import Task, data_format


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]} is more than {bounds[1]}: write the smaller bound first")
    return bounds


class CsvConfig(Section):
    train: str = "train.csv"
    """Table of the training images, with a header line; relative to `data.root`."""
    val: str | None = "val.csv"
    """Table of the validation images; null where `data.val_fraction` takes them from `train`."""
    path: str = "path"
    """Column of the image's path, relative to `data.root`."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("label",)
    """Columns of the label or the targets."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Between two columns: one character."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """Between the labels of an image, where one column holds them all (multilabel)."""


class DataConfig(Section):
    format: Annotated[str, AfterValidator(data_format)] = "imagefolder"
    """`imagefolder`, `tiny_imagenet`, `csv`, `torchvision`, or `package.module:callable` (docs/data.md)."""
    root: FilePath
    """Folder of the images; what it must look like depends on `format`."""
    task: Task = "classification"
    """What the targets are: one class, any number of labels, or numbers."""
    name: str | None = None
    """Name of the set where `format` is torchvision, such as FashionMNIST."""
    csv: CsvConfig = CsvConfig()
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that becomes the validation set, where there is none; the same in every class."""
    val_seed: NonNegativeInt = 0
    """Decides which images; not `run.seed`, so that runs with other seeds are scored on the same images."""
    max_val_images: PositiveInt | None = None
    """Validate on so many images only, spread evenly over the set: for quick looks; null is all of them."""
    image_size: PositiveInt | None = None
    """Side of the square input in pixels; the model's own if not given."""
    mean: tuple[Probability, Probability, Probability] | None = None
    """Of each channel of images in [0, 1]; the model's own if not given."""
    std: tuple[Share, Share, Share] | None = None
    """Standard deviation of each channel of images in [0, 1]; the model's own if not given."""
    workers: NonNegativeInt = 4
    """Loader processes per rank; 0 loads in the training process."""
    prefetch: PositiveInt = 4
    """Batches that each loader process keeps ready."""
    pin_memory: bool = True
    """Copy to the GPU from page-locked memory, beside the computation."""
    persistent_workers: bool = True
    """Keep the loader processes of the validation set from one evaluation to the next."""
    cache: FilePath | None = None
    """Folder of the decoded images that `augment.device` reads; `dist_train-<user id>` in the system's temporary folder
    if not given."""
    bad_images: Literal["error", "skip"] = "error"
    """An image that cannot be decoded ends the run, or is replaced (in training) or left out (of validation)."""
    max_bad_share: Fraction = 0.01
    """With `bad_images: skip`: more than this share of a split is an error all the same."""


class RandAugmentConfig(Section):
    num_ops: PositiveInt = 2
    """Operations applied to each image, drawn anew for each."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the operations, of at most 30."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """How sheared, shifted and turned images are sampled; bilinear is slower."""
    fill: tuple[Level, Level, Level] = (0, 0, 0)
    """Colour of what a shifted or turned image leaves bare; RGB, 0 to 255."""


class AugmentConfig(Section):
    device: bool = False
    """Crop, flip and RandAugment on the device, by torchvision's functions of tensors; needs images of one size."""
    crop: Literal["center", "random_resized"] = "center"
    """center: resize the shorter side, cut the middle. random_resized: Inception-style random crop."""
    crop_scale: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.08, 1.0)
    """Range of the area that a random_resized crop keeps."""
    crop_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.75, 4 / 3)
    """Range of its width over its height."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    """How training images are resized; evaluation is always bicubic."""
    hflip: Probability = 0.5
    """Probability of a flip, left to right."""
    randaugment: RandAugmentConfig | None = None
    """Off if not given; `{}` for the defaults."""
    erasing: Probability = 0.0
    """Probability that a rectangle of an image is erased."""
    erasing_scale: Annotated[tuple[Share, Share], AfterValidator(_rising)] = (0.02, 1 / 3)
    """Range of the rectangle's share of the image."""
    erasing_ratio: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)] = (0.3, 10 / 3)
    """Range of its height over its width."""
    erasing_fill: Literal["mean", "colour", "noise"] = "mean"
    """mean: the data's mean colour. colour: one random colour. noise: a random colour at every pixel."""
    mixup: NonNegativeFloat = 0.0
    """Alpha of Mixup's Beta distribution; 0 is off."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha of CutMix's Beta distribution; 0 is off."""
    mix_prob: Probability = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch_prob: Probability = 0.5
    """Probability of CutMix rather than Mixup, where both are on."""
