"""Numbers that are added up on the device and read once a log line, and which of two scores is the better."""

import math

import torch
from torch import Tensor

from dist_train.distributed import Dist
from dist_train.tasks import FALLING

LOSS, GRAD_NORM, GOOD, BAD, STREAK, LONGEST = range(6)


class StepSums:
    """Running sums over the steps since the last row, on the device: adding never waits for it.

    ``values`` is float64 [6]: sum of losses and of gradient norms over good steps, good steps, bad ones (loss or
    gradient not finite), bad ones in a row up to now, and the longest such row.
    """

    def __init__(self, device: torch.device) -> None:
        self.values = torch.zeros(6, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Count one step; both are scalars on the device."""
        step = torch.stack((loss.double(), grad_norm.double()))
        good = step.isfinite().all().double()
        streak = (self.values[STREAK] + 1) * (1 - good)
        self.values[:GOOD] += step.nan_to_num(0, 0, 0) * good
        self.values[GOOD:STREAK] += torch.stack((good, 1 - good))
        self.values[STREAK:] = torch.stack((streak, self.values[LONGEST].maximum(streak)))

    def read(self, group: Dist) -> "StepMeans":
        """The means over all ranks. Waits for the device."""
        values = group.sum(self.values.clone()).div_(group.world_size).tolist()
        return StepMeans(
            loss=values[LOSS] / values[GOOD] if values[GOOD] else float("nan"),
            grad_norm=values[GRAD_NORM] / values[GOOD] if values[GOOD] else float("nan"),
            bad_steps=round(values[BAD]),
            longest_streak=round(values[LONGEST]),
        )

    def clear(self) -> None:
        """Begin a new row; a row of bad steps goes on."""
        self.values[:STREAK] = 0
        self.values[LONGEST] = self.values[STREAK]


class StepMeans:
    """What a log line says of the steps since the last one."""

    def __init__(self, loss: float, grad_norm: float, bad_steps: int, longest_streak: int) -> None:
        self.loss, self.grad_norm, self.bad_steps, self.longest_streak = loss, grad_norm, bad_steps, longest_streak


def better(metric: str, new: float, old: float, by: float = 0.0) -> bool:
    """Whether ``new`` beats ``old``: losses and errors should fall, the others rise. Anything beats NaN."""
    if math.isnan(old):
        return not math.isnan(new)
    return new < old - by if metric in FALLING else new > old + by
