"""From the losses at rising learning rates to a suggestion: the range test of Smith (2017). Without torch."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dist_train.learning.schedule import Moment

LOWEST, HIGHEST = 1e-7, 10.0
"""The first and the last learning rate, as in fastai's ``lr_find``."""
STEPS, FEWEST = 100, 20
"""Steps from the first rate to the last one: the default, and the fewest that make a curve."""
BETA = 0.98
"""Decay of the moving average of the losses, as in fastai and Lightning."""
SKIPPED = 0.1
"""Share of the curve, at its beginning, in which the average has too few losses to say where its minimum is."""
RISE = 4.0
"""The search ends where the smoothed loss is this many times its minimum, as in fastai and Lightning."""
CLEAR = 1.5
"""How many times the usual difference of two losses in a row the fall must be, to be more than noise."""


@dataclass(frozen=True)
class Curve:
    """The mean loss of the global batch of each step, before its update; ``rates`` are those of the updates."""

    rates: list[float]
    losses: list[float]

    def smoothed(self) -> list[float]:
        """Return the exponential moving average of the losses, bias-corrected as fastai's and Lightning's."""
        found, average = [], 0.0
        for step, loss in enumerate(self.losses, start=1):
            average = BETA * average + (1 - BETA) * loss
            found.append(average / (1 - BETA**step))
        return found


def rising(now: Moment, *, steps: int) -> float:
    """Return the rate of a step as a multiple of ``LOWEST``: exponential, ``HIGHEST`` at the last of ``steps`` steps."""
    return math.pow(HIGHEST / LOWEST, min(1.0, now.step / (steps - 1)))


def diverged(losses: Sequence[float]) -> bool:
    """Return whether the last loss is not finite, or the smoothed one is ``RISE`` times its minimum and above the first."""
    smoothed = Curve([], list(losses)).smoothed()
    lowest = min(smoothed)
    return not math.isfinite(losses[-1]) or smoothed[-1] > max(smoothed[0], lowest + (RISE - 1) * abs(lowest))


def suggested(curve: Curve) -> float | None:
    """Return a tenth of the rate at which the smoothed loss has its minimum, as fastai's ``minimum``.

    On two sets it came nearer to the best of a sweep than the steepest fall and fastai's valley
    (benchmarks/results/lr_find.md).

    Returns:
        The rate; None if the loss does not fall by more than its noise.
    """
    finite = next((step for step, loss in enumerate(curve.losses) if not math.isfinite(loss)), len(curve.losses))
    losses, skipped = curve.losses[:finite], math.ceil(SKIPPED * len(curve.losses))
    smoothed = Curve(curve.rates, losses).smoothed()
    if finite < skipped + 3:
        return None
    lowest = min(range(skipped, finite), key=smoothed.__getitem__)
    noise = statistics.median(abs(later - earlier) for earlier, later in pairwise(losses))
    first = statistics.fmean(losses[:skipped])
    if first - smoothed[lowest] <= CLEAR * noise or math.isclose(first, smoothed[lowest], rel_tol=1e-6):
        return None
    return curve.rates[lowest] / 10
