"""How long steps take, without the evaluations and saves between them."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Lap:
    """The ``steps`` since the last row: seconds that they took, and of these the seconds spent on waiting for data."""

    steps: int
    elapsed_s: float
    waited_s: float


class StepClock:
    """Runs from ``step`` on."""

    def __init__(self, step: int) -> None:
        self._first = self._lap_step = step
        self._began = self._lap_began = time.monotonic()
        self._lap_waited = self._paused = 0.0

    def pause(self, seconds: float) -> None:
        """Leave out time that was just spent on something other than steps."""
        self._lap_began += seconds
        self._paused += seconds

    def lap(self, step: int, waited_s: float) -> Lap:
        """Return what came since the last lap, and begin a new one.

        Args:
            waited_s: seconds spent on waiting for data since the clock started.
        """
        now = time.monotonic()
        lap = Lap(step - self._lap_step, now - self._lap_began, waited_s - self._lap_waited)
        self._lap_step, self._lap_began, self._lap_waited = step, now, waited_s
        return lap

    def wall_s(self) -> float:
        """Return the seconds since the clock started, all of them."""
        return time.monotonic() - self._began

    def steps_per_s(self, step: int) -> float | None:
        """Return the mean speed up to ``step``; None before the first."""
        return (step - self._first) / (self.wall_s() - self._paused) if step > self._first else None
