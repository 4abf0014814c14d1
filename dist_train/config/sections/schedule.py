"""The section `schedule`: learning rate over the run."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dist_train.config.choices import SCHEDULES
from dist_train.config.types import NonNegativeFloat, PositiveFloat, Section


class ScheduleConfig(Section):
    name: Annotated[str, SCHEDULES] = "cosine"
    """Shape of the learning rate after the warm-up, as a function of the step."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs (0.5 is half an epoch) in which the learning rate rises to `optim.lr`."""
    min_lr: NonNegativeFloat = 0.0
    """Lowest learning rate after the warm-up."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each drop of step and multistep, and per epoch of exponential."""
    step_epochs: PositiveFloat = 30.0
    """Epochs between two multiplications by `gamma`, for step."""
    milestones: tuple[PositiveFloat, ...] = ()
    """Epochs at which multistep multiplies by `gamma`."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the run in which the learning rate rises, for onecycle."""
    on_extend: Literal["restart", "rescale"] | None = None
    """How the schedule of a run that is made longer goes on, if its rates depend on the length. null: such a change is refused.
    restart: once more, over the added steps. rescale: one schedule over the new length."""

    @model_validator(mode="after")
    def _consistent(self) -> "ScheduleConfig":
        if self.name == "multistep" and not self.milestones:
            raise ValueError(
                "milestones is empty: multistep needs the epochs at which the rate drops, such as [30, 60]"
            )
        if self.name == "onecycle" and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must be 0: onecycle warms up itself, see pct_start"
            )
        return self
