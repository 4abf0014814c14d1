"""The guard against NaN: a run whose steps are not finite ends before it saves anything of them."""

from typing import TYPE_CHECKING

from dist_train.errors import NonFiniteError
from dist_train.training.step_sums import StepMeans

if TYPE_CHECKING:
    from dist_train.training.setup import Setup

LONGEST_BAD_STREAK = 25
"""Steps in a row that may be skipped; fp16 needs about 16 to find its loss scale."""


def finite_means(setup: "Setup") -> StepMeans:
    """Return the means since the last row. Waits for the device; every rank must call it.

    Raises:
        NonFiniteError: a step was not finite and none may be skipped, or too many in a row were.
    """
    step = setup.state.progress.step
    means = setup.state.sums.read(setup.group)
    if means.longest_streak > LONGEST_BAD_STREAK or (means.bad_steps and not setup.state.precision.skips):
        raise NonFiniteError(
            f"the loss or its gradient was not finite in {means.bad_steps} of the steps {step - means.steps + 1} to {step} "
            f"(learning rate {setup.stepper.lr(step - 1):.3g}, mean gradient norm of the others {means.grad_norm:.3g}); "
            "lower `optim.lr`, set `train.clip_grad`, lengthen `schedule.warmup_epochs`, or use amp_bf16 for amp_fp16"
        )
    return means


def take_means(setup: "Setup") -> StepMeans:
    """Return the means since the last row, as ``finite_means`` does, count the skipped steps, and begin a new row."""
    means = finite_means(setup)
    setup.state.progress.skipped += means.bad_steps
    setup.state.sums.clear()
    return means
