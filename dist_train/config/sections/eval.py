"""The section `eval`: when, how and by which metric a run is evaluated."""

from typing import Annotated, Literal

from dist_train.config.choices import METRICS
from dist_train.config.types import PositiveInt, Section


class EvalConfig(Section):
    every_epochs: PositiveInt = 1
    """Epochs between two evaluations; one is made at the end in any case."""
    every_steps: PositiveInt | None = None
    """Wins over `every_epochs`."""
    batch_size: PositiveInt = 64
    """Images in one forward pass: the same at any world size, so that the result is too."""
    crop: Literal["auto", "center", "squash", "pad"] = "auto"
    """How evaluation, prediction and export make an image square; auto: as `augment.crop`, and center after
    random_resized."""
    metric: Annotated[str, METRICS] = "top1"
    """Decides `best` and early stopping; losses and errors should fall, the others rise."""
    weights: Literal["ema", "raw"] = "ema"
    """Which weights are evaluated and published as `best` and `last`, where `train.ema` is set."""
