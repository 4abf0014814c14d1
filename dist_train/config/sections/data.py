"""The section `data`: format, split, size, loader."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dist_train.config.choice_table import Task
from dist_train.config.choices import FORMATS
from dist_train.config.types import (
    MAX_PIXELS,
    FilePath,
    Fraction,
    ImageSize,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Section,
    Share,
    size_or,
)


class CsvConfig(Section):
    train: str = "train.csv"
    """CSV file of the training images, with a header line; its path is relative to `data.root`."""
    val: str | None = "val.csv"
    """CSV file of the validation images; null if `data.val_fraction` takes them from `train`."""
    path: str = "path"
    """Column of the image paths, which are relative to `data.root`."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("label",)
    """Columns of the labels or targets."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Character between two columns."""
    suffix: str = ""
    """Suffix to add to each path, such as `.jpg` if the column has ids without a suffix."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """Character between the labels of an image, if one column holds them all (multilabel)."""
    weight: str | None = None
    """Column of the training table with a number of at least 0 for each image, by which its loss is multiplied."""
    group: str | None = None
    """Column of the training table whose equal values, such as those of one patient, stay in one fold of `data.fold`."""


def _sampling(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    return {"name": "column", **value} if isinstance(value, dict) and "column" in value else value


class SamplingConfig(Section):
    name: Literal["balanced", "sqrt", "column"]
    """balanced: every class equally often. sqrt: a class by the square root of its number of images. column: an image in
    proportion to its number in `column`."""
    column: str | None = None
    """Column of the training table (`format` csv): a number of at least 0 for each image."""

    @model_validator(mode="after")
    def _column_of_its_name(self) -> "SamplingConfig":
        if (self.name == "column") != (self.column is not None):
            raise ValueError("give balanced, sqrt, or {column: NAME}")
        return self


FOLD = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


def _fold(value: str) -> str:
    match = FOLD.fullmatch(value)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise ValueError(f"{value!r} must be NUMBER/FOLDS, such as 2/5: the second of five folds")
    return value


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"[{bounds[0]:g}, {bounds[1]:g}] must rise: write the value that becomes black first")
    return bounds


class DataConfig(Section):
    format: Annotated[str, FORMATS] = "imagefolder"
    """`imagefolder`, `tiny_imagenet`, `tar`, `zip`, `hf`, `csv`, `torchvision`, or `package.module:callable`."""
    root: FilePath
    """Folder of the images; its layout depends on `format`. For archives also one archive, or an address such as `s3://bucket/set`."""
    task: Task = "classification"
    """Targets of an image: one class, any number of labels, or numbers."""
    name: str | None = None
    """Name of torchvision's data set, such as FashionMNIST, if `format` is torchvision."""
    csv: CsvConfig = CsvConfig.usual()
    """CSV files and their columns, if `format` is csv."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the classes, in the order of the model's outputs, if `format` is imagefolder or csv; other folders are
    ignored, other labels are an error. If not given: all class folders, or all labels of the training table."""
    test: str | None = None
    """Test set, which training never reads: a folder (imagefolder; `test` if not given) or a CSV file (csv), relative to
    `root`."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that becomes the validation set, if the data has none; equal in every class."""
    val_seed: NonNegativeInt = 0
    """Seed that chooses the images of `val_fraction`, `fold`, `train_fraction` and `shots`. Runs with different `run.seed` thus
    have the same ones."""
    fold: Annotated[str, AfterValidator(_fold)] | None = None
    """`2/5`: the second of five parts of the training images is the validation set, and the other four train."""
    train_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images to train on, equal in every class; the validation set stays as it is."""
    shots: PositiveInt | None = None
    """Training images of each class to train on; the validation set stays as it is."""
    exclude: FilePath | None = None
    """CSV file whose column `image` names images to leave out of training and validation, such as `look --doctor` writes; its
    rows with `no` in a column `exclude` do not count."""
    sampling: Annotated[
        SamplingConfig | None,
        BeforeValidator(_sampling, json_schema_input_type=Literal["balanced", "sqrt"] | SamplingConfig | None),
    ] = None
    """How often an epoch sees an image: balanced, sqrt, or {column: NAME}. null: once."""
    max_val_images: PositiveInt | None = None
    """Validate on at most this many images, spread evenly over the set; null is all."""
    max_overlap: Fraction | None = 0.01
    """Largest share of the validation images that may also be training images; more refuses a new run. null: no limit."""
    image_size: Annotated[ImageSize | None, size_or(None)] = None
    """Size of the model's input in pixels: the side of a square, or [height, width]; the model's own size if not given."""
    channels: PositiveInt = 3
    """Channels of an image: 1 is grey, 3 is RGB, 4 is RGB with transparency as a channel; other numbers for `.npy` files and arrays."""
    bits: Literal[8, 16] = 8
    """Bits per channel that training sees: with 16, deep images keep their levels. Other than 8 needs more time and memory."""
    mean: Annotated[tuple[Probability, ...], Field(min_length=1)] | None = None
    """Mean of each channel, with pixel values in [0, 1]; the model's own if not given (`dist-train statistics` computes yours)."""
    std: Annotated[tuple[Share, ...], Field(min_length=1)] | None = None
    """Standard deviation of each channel, with pixel values in [0, 1]; the model's own if not given."""
    value_range: Annotated[tuple[float, float], AfterValidator(_rising)] | None = None
    """For images with more than 8 bits per channel: the values that become 0 and 255, such as [0, 4095] for 12 bits. If not
    given, a sample of the training images decides when the run begins."""
    max_pixels: PositiveInt | None = MAX_PIXELS
    """Largest number of pixels (height x width); a larger image counts as a bad image. null: no limit."""
    fast_decode: bool = False
    """Decode a JPEG file at a half, a quarter or an eighth of its size where a random crop is still larger than
    `data.image_size`. Faster for photos of several megapixels; pixels differ by 3 to 4 of 255. Evaluations decode whole."""
    workers: NonNegativeInt | None = None
    """Loader processes per rank; 0 loads in the training process. If not given: one per core of the rank, at most 4."""
    prefetch: PositiveInt = 4
    """Batches that each loader process keeps ready."""
    timeout_s: PositiveInt = 300
    """Seconds that a rank waits for a batch of its loader processes; then the run ends, and the error says what each does."""
    pin_memory: bool = True
    """Copy batches to the GPU from page-locked memory, while the GPU computes."""
    persistent_workers: bool = True
    """Keep the validation loader processes alive between two evaluations."""
    cache: FilePath | None = None
    """Folder of the decoded images that `augment.device` reads. If not given: `dist_train-<user id>` in the system's
    temporary folder."""
    stage: FilePath | None = None
    """Folder on the node's own disk, such as `$TMPDIR`, to which archives (`format: tar`, `zip` or `hf`) are copied while the training begins."""
    bad_images: Literal["error", "skip"] = "error"
    """error: an image that cannot be decoded stops the run. skip: training replaces it, validation leaves it out."""
    max_bad_share: Fraction = 0.01
    """With `bad_images: skip`: largest share of a split that may be bad; more is an error."""

    @property
    def draws_validation(self) -> bool:
        """Return whether the validation set is a part of the training images."""
        return self.val_fraction is not None or self.fold is not None

    @property
    def fold_of(self) -> tuple[int, int]:
        """Return which fold `fold` names, from 0, and how many there are."""
        assert self.fold is not None
        number, folds = map(int, self.fold.split("/"))
        return number - 1, folds
