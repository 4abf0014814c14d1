"""The guard against NaN: if steps are not finite, the run ends before it saves their state."""

from typing import TYPE_CHECKING

from dist_train.errors import NonFiniteError
from dist_train.training.step_sums import StepMeans

if TYPE_CHECKING:
    from dist_train.training.setup import Setup

LONGEST_BAD_STREAK = 25
"""How many steps in a row may be skipped; fp16 needs about 16 to find its loss scale."""


def finite_means(setup: "Setup") -> StepMeans:
    """Return the means over the steps since the last row. Waits for the device; every rank must call it.

    Raises:
        NonFiniteError: a step was not finite and skipping is off, or too many steps in a row were not finite.
    """
    step = setup.state.progress.step
    means = setup.state.sums.read(setup.group)
    if means.longest_streak > LONGEST_BAD_STREAK or (means.bad_steps and not setup.state.precision.skips):
        raise NonFiniteError(
            f"the loss or its gradient was NaN or infinite in {means.bad_steps} of the steps {step - means.steps + 1} to "
            f"{step} (learning rate {setup.stepper.lr(step - 1):.3g}, mean gradient norm of the finite steps "
            f"{means.grad_norm:.3g}); lower `optim.lr`, set `train.clip_grad`, raise `schedule.warmup_epochs`, or use "
            "train.precision=amp_bf16 instead of amp_fp16"
        )
    return means


def take_means(setup: "Setup") -> StepMeans:
    """Return what ``finite_means`` returns, add the skipped steps to the progress, and start a new row."""
    means = finite_means(setup)
    setup.state.progress.skipped += means.bad_steps
    setup.state.sums.clear()
    return means
