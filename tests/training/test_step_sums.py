"""Running sums over steps, and the better of two scores."""

import math

import pytest
import torch

from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.evaluation.better import better
from dist_train.training.step_sums import PACK, StepSums

ALONE = Dist.alone()


def add(sums: StepSums, *losses: float) -> None:
    for loss in losses:
        sums.add(torch.tensor(loss), torch.tensor(2 * loss), {})


def test_means_are_over_good_steps() -> None:
    sums = StepSums(ALONE.device)
    add(sums, 1.0, math.nan, 3.0, math.inf, math.inf)
    means = sums.read(ALONE)
    assert (means.loss, means.grad_norm) == (2.0, 4.0)
    assert (means.bad_steps, means.longest_streak) == (3, 2)


def test_a_long_way_between_log_lines_is_counted_in_full() -> None:
    sums, half = StepSums(ALONE.device), StepSums(ALONE.device)
    losses = [float(number) for number in range(2 * PACK + 3)]
    add(sums, *losses)
    add(half, *losses[: PACK + 1])
    half.restore(half.values(), {})
    add(half, *losses[PACK + 1 :])
    assert sums.values().tolist() == [sum(losses), 2 * sum(losses), len(losses), 0, 0, 0]
    assert half.values().tolist() == sums.values().tolist(), "a save on the way changes nothing"


def test_a_row_of_bad_steps_goes_on_over_a_log_line() -> None:
    sums = StepSums(ALONE.device)
    add(sums, math.nan, math.nan)
    sums.clear()
    add(sums, math.nan)
    assert sums.read(ALONE).longest_streak == 3
    add(sums, 1.0)
    sums.clear()
    add(sums, math.nan)
    assert sums.read(ALONE).longest_streak == 1


def test_nothing_to_average_is_not_a_number() -> None:
    assert math.isnan(StepSums(ALONE.device).read(ALONE).loss)


def test_further_scalars_are_means_over_good_steps_and_outlast_a_save() -> None:
    sums, half = StepSums(ALONE.device), StepSums(ALONE.device)
    steps = [(1.0, {"b": 2.0, "a": 5.0}), (math.nan, {"b": 7.0, "a": 7.0}), (3.0, {"b": 4.0, "a": 6.0})]
    for number, (loss, extras) in enumerate(steps):
        for each in (sums, half):
            each.add(torch.tensor(loss), torch.tensor(1.0), {name: torch.tensor(v) for name, v in extras.items()})
        if number == 1:
            values, saved = half.values(), half.extra_values()
            half = StepSums(ALONE.device)
            half.restore(values, saved)
    assert sums.read(ALONE).extras == half.read(ALONE).extras == {"a": 5.5, "b": 3.0}
    sums.clear()
    sums.add(torch.tensor(1.0), torch.tensor(1.0), {"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    assert sums.read(ALONE).extras == {"a": 1.0, "b": 2.0}


def test_names_of_scalars_must_stay() -> None:
    sums = StepSums(ALONE.device)
    sums.add(torch.tensor(1.0), torch.tensor(1.0), {"a": torch.tensor(1.0)})
    with pytest.raises(ConfigError, match=r"returns the scalars \['b'\] and the loss, but before it returned \['a'\]"):
        sums.add(torch.tensor(1.0), torch.tensor(1.0), {"b": torch.tensor(1.0)})


@pytest.mark.parametrize("metric", ["loss", "mae", "rmse"])
def test_losses_and_errors_should_fall(metric: str) -> None:
    assert better(metric, 1.0, 2.0)
    assert not better(metric, 2.0, 1.0)
    assert not better(metric, 1.0, 1.05, by=0.1)


@pytest.mark.parametrize("metric", ["top1", "top5", "macro_f1", "map", "r2"])
def test_everything_else_should_rise(metric: str) -> None:
    assert better(metric, 2.0, 1.0)
    assert not better(metric, 1.0, 1.0)
    assert not better(metric, 1.05, 1.0, by=0.1)


def test_a_number_beats_no_number() -> None:
    assert better("top1", 0.0, math.nan)
    assert not better("top1", math.nan, 0.0)
    assert not better("loss", math.nan, math.nan)
