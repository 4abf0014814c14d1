"""From a curve to a suggestion, on made-up curves."""

import math
import random
from itertools import pairwise

import pytest

from dist_train.inference.rates.search import HIGHEST, LOWEST, STEPS, Curve, diverged, rising, suggested
from dist_train.learning.schedule import Moment


def rate_of(step: int, steps: int = STEPS) -> float:
    return LOWEST * rising(Moment(step, 1000, 0.0, 0.0), steps=steps)


def curve(start: float, floor: float, middle: float, blow_up: float, noise: float = 0.0, steps: int = STEPS) -> Curve:
    """Losses that fall from ``start`` to ``floor`` around the rate ``middle``, and rise beyond ``blow_up``, until they diverge."""
    draw, found = random.Random(0), Curve([], [])
    for step in range(steps):
        rate = rate_of(step, steps)
        fall = (start - floor) / (1 + (middle / rate) ** 1.5)
        found.rates.append(rate)
        found.losses.append(start - fall + (rate / blow_up) ** 2 + noise * draw.gauss(0, 1))
        if diverged(found.losses):
            break
    return found


def test_rates_rise_by_the_same_factor_to_the_last_step_and_stay_there() -> None:
    rates = [rate_of(step) for step in range(STEPS)]
    assert (rates[0], rates[-1]) == (LOWEST, pytest.approx(HIGHEST))
    assert {round(high / low, 6) for low, high in pairwise(rates)} == {round(1e8 ** (1 / 99), 6)}
    assert rate_of(10 * STEPS) == pytest.approx(HIGHEST), "a schedule is asked for steps of the whole run"


@pytest.mark.parametrize("middle", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("steps", [50, STEPS, 300])
def test_the_suggestion_lies_on_the_slope(middle: float, noise: float, steps: int) -> None:
    found = curve(4.0, 1.0, middle, blow_up=30 * middle, noise=noise, steps=steps)
    chosen = suggested(found)
    assert chosen is not None
    assert middle / 4 < chosen < middle * 12


def test_noise_alone_suggests_nothing() -> None:
    for seed in range(50):
        draw = random.Random(seed)
        losses = [4 + draw.gauss(0, 0.3) for _ in range(STEPS)]
        assert suggested(Curve([rate_of(step) for step in range(STEPS)], losses)) is None, seed


@pytest.mark.parametrize(
    "losses", [[4.0] * STEPS, [4 + 0.01 * step for step in range(STEPS)], [math.nan], [3.0, math.inf]]
)
def test_a_loss_that_does_not_fall_suggests_nothing(losses: list[float]) -> None:
    assert suggested(Curve([rate_of(step) for step in range(len(losses))], losses)) is None


@pytest.mark.parametrize("end", [math.nan, math.inf, 1e30])
def test_what_comes_after_the_fall_does_not_move_the_suggestion(end: float) -> None:
    found = curve(4.0, 1.0, 1e-3, blow_up=math.inf)
    longer = Curve(found.rates[:80], [*found.losses[:79], end])
    assert suggested(longer) == suggested(Curve(found.rates[:79], found.losses[:79]))


def test_a_loss_below_zero_is_a_loss() -> None:
    found = curve(4.0, 1.0, 1e-3, blow_up=0.03)
    assert suggested(Curve(found.rates, [loss - 10 for loss in found.losses])) == suggested(found)


def test_a_plateau_before_and_after_is_not_the_slope() -> None:
    found = curve(2.0, 1.9, 1e-2, blow_up=1.0)
    chosen = suggested(found)
    assert chosen is not None
    assert 2.5e-3 < chosen < 0.12


def test_a_loss_has_diverged_where_it_is_not_finite_or_four_times_its_minimum() -> None:
    assert diverged([math.nan])
    assert diverged([4.0, 3.0, math.inf])
    assert not diverged([4.0, 3.0, 2.0])
    assert not diverged([1.0, 0.01, 0.9]), "not above the first loss yet"
    assert not diverged([-5.0, -6.0, -5.5])
    assert diverged([1.0] * 10 + [200.0])
    assert diverged([-5.0, -6.0, 900.0])


def test_the_smoothed_loss_is_a_mean_of_what_came_before() -> None:
    assert Curve([1, 2, 3], [4.0, 4.0, 4.0]).smoothed() == pytest.approx([4.0, 4.0, 4.0])
    first, second = Curve([1, 2], [4.0, 2.0]).smoothed()
    assert (first, 2.9 < second < 3.1) == (pytest.approx(4.0), True)
