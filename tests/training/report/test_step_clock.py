"""Pauses do not count as time of steps, suspensions (``test_clock``) not at all."""

import time

import pytest

from dist_train.training.report.step_clock import StepClock


def test_laps_and_the_mean_speed_leave_pauses_out() -> None:
    clock = StepClock(10)
    assert clock.steps_per_s(10) is None
    time.sleep(0.2)
    time.sleep(0.3)
    clock.pause(0.3)
    lap = clock.lap(14, waited_s=0.1)
    assert (lap.steps, lap.waited_s) == (4, 0.1)
    assert 0.19 < lap.elapsed_s < 0.29
    second = clock.lap(14, waited_s=0.15)
    assert (second.steps, second.waited_s) == (0, pytest.approx(0.05))
    assert second.elapsed_s < 0.1
    assert clock.wall_s() > 0.49
    assert clock.steps_per_s(14) == pytest.approx(4 / (clock.wall_s() - 0.3), rel=0.1)
