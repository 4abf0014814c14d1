"""The section `schedule`: learning rate over the run."""

from typing import Annotated

from pydantic import Field, model_validator

from dist_train.config.choices import SCHEDULES
from dist_train.config.types import NonNegativeFloat, PositiveFloat, Section


class ScheduleConfig(Section):
    name: Annotated[str, SCHEDULES] = "cosine"
    """The learning rate after the warm-up, a function of the step."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs, or a part of one, in which the rate rises to `optim.lr`."""
    min_lr: NonNegativeFloat = 0.0
    """No schedule falls below it after the warm-up."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each step of step and multistep, and for each epoch of exponential."""
    step_epochs: PositiveFloat = 30.0
    """With step: epochs between two multiplications by `gamma`."""
    milestones: tuple[PositiveFloat, ...] = ()
    """Epochs at which multistep multiplies by `gamma`."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the run in which the rate of onecycle rises."""

    @model_validator(mode="after")
    def _consistent(self) -> "ScheduleConfig":
        if self.name == "multistep" and not self.milestones:
            raise ValueError("milestones is empty: multistep needs the epochs at which to step, such as [30, 60]")
        if self.name == "onecycle" and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must be 0: onecycle warms up itself, see pct_start"
            )
        return self
