"""The guard against NaN, on real sums; whole runs with bad steps are in ``tests/whole_runs/test_train.py``."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dist_train.distributed.group import Dist
from dist_train.errors import NonFiniteError
from dist_train.training.guard import LONGEST_BAD_STREAK, finite_means, take_means
from dist_train.training.state import Progress
from dist_train.training.step_sums import StepSums


def setup_of(losses: list[float], skips: bool, step: int) -> Any:
    """What the guard looks at of a run whose last steps had these losses."""
    group = Dist.alone()
    sums = StepSums(group.device)
    for loss in losses:
        sums.add(torch.tensor(loss), torch.tensor(1.0), {})
    state = SimpleNamespace(sums=sums, progress=Progress(step=step, skipped=5), precision=SimpleNamespace(skips=skips))
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
