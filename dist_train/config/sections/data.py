"""The section `data`: format, split, size, loader."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dist_train.config.choice_table import Task
from dist_train.config.choices import FORMATS
from dist_train.config.types import (
    MAX_PIXELS,
    FilePath,
    Fraction,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Section,
    Share,
)


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
    suffix: str = ""
    """Added to each path, such as `.jpg` where the column holds ids without a suffix."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """Between the labels of an image, where one column holds them all (multilabel)."""


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"[{bounds[0]:g}, {bounds[1]:g}] must rise: write the value that becomes black first")
    return bounds


class DataConfig(Section):
    format: Annotated[str, FORMATS] = "imagefolder"
    """`imagefolder`, `tiny_imagenet`, `csv`, `torchvision`, or `package.module:callable`."""
    root: FilePath
    """Folder of the images; what it must look like depends on `format`."""
    task: Task = "classification"
    """What the targets are: one class, any number of labels, or numbers."""
    name: str | None = None
    """Name of the set where `format` is torchvision, such as FashionMNIST."""
    csv: CsvConfig = CsvConfig()
    """Tables and their columns where `format` is csv."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the classes, in the order of the model's outputs, where `format` is imagefolder or csv; other folders are
    left aside, other labels are an error. If not given: every class folder, or every label of the training table."""
    test: str | None = None
    """The test set, which training never reads: a folder (imagefolder; `test` if not given) or a table (csv), relative to
    `root`."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training images that becomes the validation set, where there is none; the same in every class."""
    val_seed: NonNegativeInt = 0
    """Decides which images. It is not `run.seed`, so that runs with other seeds are scored on the same images."""
    max_val_images: PositiveInt | None = None
    """Validate on so many images only, spread evenly over the set: for quick looks; null is all of them."""
    max_overlap: Fraction | None = 0.01
    """A new run is refused if more than this share of the validation images are training images too; null allows any."""
    image_size: PositiveInt | None = None
    """Side of the square input in pixels; the model's own if not given."""
    mean: tuple[Probability, Probability, Probability] | None = None
    """Of each channel of images in [0, 1]; the model's own if not given."""
    std: tuple[Share, Share, Share] | None = None
    """Standard deviation of each channel of images in [0, 1]; the model's own if not given."""
    value_range: Annotated[tuple[float, float], AfterValidator(_rising)] | None = None
    """Of images with more than 8 bits per channel: the values that become 0 and 255, such as [0, 4095] for 12 bits; decided
    by a sample of the training images when the run begins, if not given."""
    max_pixels: PositiveInt | None = MAX_PIXELS
    """An image with more pixels (height x width) is a bad image; null for no limit."""
    workers: NonNegativeInt | None = None
    """Loader processes per rank; 0 loads in the training process. If not given: one for each core that a rank has, at most 4."""
    prefetch: PositiveInt = 4
    """Batches that each loader process keeps ready."""
    pin_memory: bool = True
    """Copy to the GPU from page-locked memory, while the GPU computes."""
    persistent_workers: bool = True
    """Keep the loader processes of the validation set from one evaluation to the next."""
    cache: FilePath | None = None
    """Folder of the decoded images that `augment.device` reads; `dist_train-<user id>` in the system's temporary folder
    if not given."""
    bad_images: Literal["error", "skip"] = "error"
    """An image that cannot be decoded ends the run, or is replaced (in training) or left out (of validation)."""
    max_bad_share: Fraction = 0.01
    """With `bad_images: skip`: more than this share of a split is still an error."""
