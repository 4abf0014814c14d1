"""Measure how long steps take, without the evaluations and saves between them, and without suspensions."""

from dataclasses import dataclass

from dist_train.system.machine.clock import awake_s


@dataclass(frozen=True)
class Lap:
    """The number of steps since the last row, the seconds that they took, and how many of these they waited for data."""

    steps: int
    elapsed_s: float
    waited_s: float


class StepClock:
    """Measures the steps after ``step``."""

    def __init__(self, step: int) -> None:
        self._first = self._lap_step = step
        self._began = self._lap_began = awake_s()
        self._lap_waited = self._paused = 0.0

    def pause(self, seconds: float) -> None:
        """Exclude ``seconds`` that were just spent on something other than steps."""
        self._lap_began += seconds
        self._paused += seconds

    def lap(self, step: int, waited_s: float) -> Lap:
        """Return the time since the last lap, and start a new one.

        Args:
            waited_s: seconds spent waiting for data since the clock started.
        """
        now = awake_s()
        lap = Lap(step - self._lap_step, now - self._lap_began, waited_s - self._lap_waited)
        self._lap_step, self._lap_began, self._lap_waited = step, now, waited_s
        return lap

    def wall_s(self) -> float:
        """Return all seconds since the clock started, pauses included."""
        return awake_s() - self._began

    def steps_per_s(self, step: int) -> float | None:
        """Return the mean speed up to ``step``, pauses excluded; None before the first step."""
        return (step - self._first) / (self.wall_s() - self._paused) if step > self._first else None
