"""The guard against NaN: if steps are not finite, the run ends before it saves their state."""

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from dist_train.distributed.strategies.shards import local
from dist_train.errors import NonFiniteError
from dist_train.training.step_sums import StepMeans

if TYPE_CHECKING:
    from dist_train.training.setup import Setup
    from dist_train.training.state import TrainState

log = logging.getLogger(__name__)

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
        buffers = setup.group.gather_objects(setup.state.buffers.not_finite())
        cause = next((f" (first of all in {names[0]})" for names in buffers if names), "")
        raise NonFiniteError(
            f"the loss, its gradient or a buffer{cause} was NaN or infinite in {means.bad_steps} of the steps "
            f"{step - means.steps + 1} to {step} (learning rate {setup.stepper.lr(step - 1):.3g}, mean gradient norm of the finite steps "
            f"{means.grad_norm:.3g}); lower `optim.lr`, set `train.clip`, raise `schedule.warmup_epochs`, or use "
            "train.precision=amp_bf16 instead of amp_fp16"
        )
    return means


def take_means(setup: "Setup") -> StepMeans:
    """Return what ``finite_means`` returns, add the skipped steps to the progress, and start a new row."""
    means = finite_means(setup)
    setup.state.progress.skipped += means.bad_steps
    setup.state.sums.clear()
    return means


def finite_score(setup: "Setup", scores: dict[str, float]) -> None:
    """Report a validation loss that is NaN, the same on all ranks.

    Raises:
        NonFiniteError: the loss is NaN, and `train.nonfinite` is error.
    """
    if not math.isnan(scores["loss"]):
        return
    step = setup.state.progress.step
    said = f"the validation loss is NaN after step {step}, although the steps before it were finite"
    if setup.cfg.train.nonfinite == "error":
        raise NonFiniteError(
            f"{said}: the model computes something else in eval mode, or a validation image holds NaN; find the cause, or "
            "set train.nonfinite=skip to continue all the same"
        )
    if setup.group.is_main:
        log.warning("%s", said)


def refuse_what_is_not_finite(setup: "Setup") -> None:
    """Check the state before a save. Waits for the device; every rank must call it.

    Raises:
        NonFiniteError: a value of the weights, buffers, moments or EMA is NaN or infinite. Such a state is never saved.
    """
    state, step = setup.state, setup.state.progress.step
    tensors = dict(_named(state))
    # One norm is fast. It overflows before the values do, so the values decide.
    suspicious = not get_total_norm(list(tensors.values())).isfinite()
    names = [name for name, tensor in tensors.items() if not tensor.isfinite().all()] if suspicious else []
    every = [name for found in setup.group.gather_objects(names + state.buffers.not_finite()) for name in found]
    if every:
        raise NonFiniteError(
            f"{', '.join(list(dict.fromkeys(every))[:3])}: NaN or infinite after step {step}, so nothing is saved; lower "
            "`optim.lr`, or set `train.clip`"
        )
    state.buffers.note_finite()


def _named(state: "TrainState") -> Iterator[tuple[str, Tensor]]:
    """Yield the floats of this rank that steps update, except buffers, with a name for messages."""
    weights: dict[Tensor, str] = {p: name for name, p in state.objective.named_parameters() if p.requires_grad}
    yield from ((f"the weight {name}", local(parameter.detach())) for parameter, name in weights.items())
    for number, tensor in enumerate(state.ema.averaged if state.ema is not None else ()):
        yield f"tensor {number} of the EMA", tensor
    for parameter, moments in state.optimizer.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.is_floating_point():
                yield f"the optimizer's {name} of {weights.get(parameter, 'a parameter')}", local(moment)
