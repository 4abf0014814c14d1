"""The section `schedule`: learning rate over the run."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dist_train.config.choices import SCHEDULES
from dist_train.config.types import NonNegativeFloat, PositiveFloat, Section, Share


class RestartsConfig(Section):
    every_epochs: PositiveFloat
    """Length of the first cycle."""
    length_factor: Annotated[float, Field(ge=1)] = 1.0
    """Length of each cycle, as a multiple of the one before it."""
    peak_factor: Share = 1.0
    """Highest rate of each cycle, as a multiple of the one before it."""


class DecayConfig(Section):
    share: Share = 0.2
    """Share of the steps between warm-up and cooldown in which the rate falls; they are the last ones."""
    shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"
    """How the rate falls."""


class ScheduleConfig(Section):
    name: Annotated[str, SCHEDULES] = "cosine"
    """Shape of the learning rate after the warm-up, as a function of the step; `package.module:function` for your own."""
    options: dict[str, Any] = {}
    """Keyword arguments of your own function."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs (0.5 is half an epoch) in which the learning rate rises to `optim.lr`."""
    warmup_lr: NonNegativeFloat | None = None
    """Learning rate of the first step of the warm-up. null: with N steps of warm-up, `optim.lr` / N."""
    cooldown_epochs: NonNegativeFloat = 0.0
    """Epochs at the end of the run at `min_lr`; the schedule takes the others."""
    restarts: RestartsConfig | None = None
    """The schedule again and again, in cycles (SGDR). null: once."""
    power: PositiveFloat = 0.9
    """Exponent of poly."""
    decay: DecayConfig = DecayConfig.usual()
    """The last part of wsd (warm-up, stable, decay)."""
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
