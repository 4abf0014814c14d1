"""The guard against NaN, on real sums; whole runs with bad steps are in ``tests/whole_runs/test_train.py``."""

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.errors import NonFiniteError
from dist_train.learning.step_buffers import StepBuffers
from dist_train.training.guard import (
    LONGEST_BAD_STREAK,
    finite_means,
    finite_score,
    refuse_what_is_not_finite,
    take_means,
)
from dist_train.training.setup import build_setup
from dist_train.training.state import Progress
from dist_train.training.step import train_step
from dist_train.training.step_sums import StepSums
from tests.support.runs import changed


def setup_of(losses: list[float], skips: bool, step: int) -> Any:
    """What the guard looks at of a run whose last steps had these losses."""
    group = Dist.alone()
    sums = StepSums(group.device)
    for loss in losses:
        sums.add(torch.tensor(loss), torch.tensor(1.0), {})
    buffers = StepBuffers(torch.nn.BatchNorm1d(2), ())
    progress, precision = Progress(step=step, skipped=5), SimpleNamespace(skips=skips)
    state = SimpleNamespace(sums=sums, progress=progress, precision=precision, buffers=buffers)
    return SimpleNamespace(group=group, state=state, stepper=SimpleNamespace(lr=lambda step: step / 100))


def test_a_step_that_is_not_finite_ends_the_run_with_what_to_do() -> None:
    with pytest.raises(
        NonFiniteError, match=r"NaN or infinite in 1 of the steps 8 to 10 \(learning rate 0\.09.*lower `optim\.lr`"
    ):
        finite_means(setup_of([1.0, math.nan, 3.0], skips=False, step=10))


def test_where_steps_may_be_skipped_only_too_many_in_a_row_end_it() -> None:
    streak = [math.inf] * LONGEST_BAD_STREAK
    assert finite_means(setup_of([*streak, 1.0, *streak], skips=True, step=99)).bad_steps == 2 * LONGEST_BAD_STREAK
    with pytest.raises(NonFiniteError):
        finite_means(setup_of([*streak, math.inf], skips=True, step=99))


def test_taking_the_means_counts_what_was_skipped_and_begins_a_row() -> None:
    setup = setup_of([1.0, math.nan, 3.0], skips=True, step=10)
    assert finite_means(setup).steps == 3
    assert setup.state.progress.skipped == 5
    assert take_means(setup).loss == 2.0
    assert setup.state.progress.skipped == 6
    assert take_means(setup).steps == 0
    assert setup.state.progress.skipped == 6


def spoil_weight(state: Any) -> None:
    state.model.head.bias.data[0] = math.inf


def spoil_buffer(state: Any) -> None:
    state.model.norm.running_var[1] = math.nan


def spoil_average(state: Any) -> None:
    state.ema.module.norm.running_mean[0] = math.inf


def spoil_moment(state: Any) -> None:
    state.optimizer.state[state.model.head.bias]["exp_avg_sq"][0] = math.inf


def spoil_nothing(state: Any) -> None:
    """A moment whose square overflows is large, and finite."""
    state.optimizer.state[state.model.head.bias]["exp_avg_sq"][0] = 1e30


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_weight, "the weight model.head.bias"),
        (spoil_buffer, "model.norm.running_var"),
        (spoil_average, r"tensor \d+ of the EMA"),
        (spoil_moment, "the optimizer's exp_avg_sq of model.head.bias"),
        (spoil_nothing, None),
    ],
)
def test_nothing_that_was_finite_and_no_longer_is_gets_saved(
    tree: dict[str, Any], spoil: Any, words: str | None
) -> None:
    options = {
        "model__name": "tests.support.odd_models:Mask",
        "train__ema": 0.9,
        "optim": {"name": "adamw", "lr": 1e-3},
    }
    setup = build_setup(parse_config(changed(tree, **options)), Dist.alone())
    train_step(setup.stepper, setup.state)
    refuse_what_is_not_finite(setup)
    spoil(setup.state)
    with pytest.raises(NonFiniteError, match=f"{words}: NaN or infinite after step 1") if words else nullcontext():
        refuse_what_is_not_finite(setup)


def test_a_validation_loss_of_nan_is_an_error_or_said(caplog: pytest.LogCaptureFixture) -> None:
    setup = setup_of([1.0], skips=False, step=10)
    for nonfinite in ("error", "skip"):
        setup.cfg = SimpleNamespace(train=SimpleNamespace(nonfinite=nonfinite))
        finite_score(setup, {"loss": 1.0})
        with pytest.raises(NonFiniteError, match="is NaN after step 10") if nonfinite == "error" else nullcontext():
            finite_score(setup, {"loss": math.nan})
    assert "the validation loss is NaN after step 10" in caplog.text
