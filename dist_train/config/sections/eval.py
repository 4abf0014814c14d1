"""The section `eval`: when, how and by which metric a run is evaluated."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from dist_train.config.choices import METRICS
from dist_train.config.types import ImageSize, PositiveInt, Section, Share, Side, size_or

SMALLEST_CROP = 0.01
"""Images are resized to at most 100 times the input, so that memory bounds them."""


def _published_or_share(value: Any) -> Any:
    if value == "published" or (type(value) in (int, float) and SMALLEST_CROP <= value <= 1):
        return value
    raise ValueError(f"{value!r} must be published, or a number from {SMALLEST_CROP} to 1, such as 0.95")


class TtaConfig(Section):
    flip: bool = True
    """Also the mirror image of each view."""
    crops: Share | None = None
    """Also five crops (centre and corners) of this share of height and width, such as 0.875, resized to the model's input."""
    sizes: tuple[Side, ...] = ()
    """Also the image, and each crop, with these shorter sides in pixels; for models that take other sizes."""

    @model_validator(mode="after")
    def _several_views(self) -> "TtaConfig":
        if not (self.flip or self.crops or self.sizes):
            raise ValueError("it asks for one view only: set flip, crops or sizes, or remove tta")
        return self


class EvalConfig(Section):
    every_epochs: PositiveInt = 1
    """Epochs between two evaluations; the end of the run is always evaluated."""
    every_steps: PositiveInt | None = None
    """Steps between two evaluations; replaces `every_epochs`."""
    batch_size: PositiveInt = 64
    """Images in one forward pass, independent of the number of ranks; so is the result."""
    crop: Literal["published", "auto", "center", "squash", "pad"] = "published"
    """How evaluation, prediction and export fit an image to the model's input. auto: like `augment.crop`, but center if that is
    random_resized. published: as auto, but after random_resized what the model was published with."""
    crop_pct: Annotated[Literal["published"] | Share, BeforeValidator(_published_or_share)] = "published"
    """Size of the input as a share of the size to which images are resized first. published: the model's own after
    random_resized, else 1."""
    interpolation: Literal["published", "bicubic", "bilinear", "nearest"] = "published"
    """Interpolation when images are resized. published: what the model was published with."""
    size: Annotated[Literal["published", "train"] | ImageSize, size_or("published", "train")] = "published"
    """Size of the input. train: as `data.image_size`. published: the same, but after random_resized crops of the model's own size
    that of its published test. Or your own: the side of a square, or [height, width]."""
    metric: Annotated[str, METRICS] = "top1"
    """Metric that chooses `best` and drives early stopping: lower is better for losses and errors, else higher. Your own
    `package.module:function` gets all samples and returns a number: higher is better."""
    metrics: tuple[Annotated[str, METRICS], ...] = ()
    """Metrics to report beside the usual ones: auroc, kappa, top10, ..., or your own `package.module:function`."""
    weights: Literal["ema", "raw"] = "ema"
    """Weights to evaluate and to publish as `best` and `last`, if `train.ema` is set."""
    tta: TtaConfig | None = None
    """Test-time augmentation: `evaluate`, `predict` and `load_run` average the probabilities of several views of an image; `{}`:
    the image and its mirror image. Evaluations during training use one view."""
