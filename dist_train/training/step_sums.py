"""Loss and gradient norm, added up on the device and read once per log line."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dist_train.distributed.group import Dist

LOSS, GRAD_NORM, GOOD, BAD, STREAK, LONGEST = range(6)

PACK = 256
"""Steps whose scalars are put into one tensor, so that a long way between two log lines keeps few of them."""


class StepSums:
    """Running sums over the steps since the last row.

    Adding a step keeps its two scalars on the device, and does no arithmetic there: that would cost more than all
    the rest of a step's bookkeeping. They are added up, in the order of steps, when somebody reads them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums = [0.0] * 6
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._packed: list[Tensor] = []

    def add(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Count one step; both are scalars on the device."""
        self._losses.append(loss)
        self._norms.append(grad_norm)
        if len(self._losses) == PACK:
            self._pack()

    def _pack(self) -> None:
        if self._losses:
            self._packed.append(torch.stack(self._losses + self._norms).view(2, -1))
            self._losses, self._norms = [], []

    def values(self) -> Tensor:
        """The sums, float64 [6]: losses and gradient norms over good steps, good steps, bad ones (loss or gradient
        not finite), bad ones in a row up to now, and the longest such row. Waits for the device.
        """
        return torch.tensor(self._added(), dtype=torch.float64, device=self._device)

    def _added(self) -> list[float]:
        self._pack()
        sums = self._sums
        for both in self._packed:
            for loss, norm in zip(*both.tolist(), strict=True):
                if math.isfinite(loss) and math.isfinite(norm):
                    sums[LOSS] += loss
                    sums[GRAD_NORM] += norm
                    sums[GOOD] += 1
                    sums[STREAK] = 0.0
                else:
                    sums[BAD] += 1
                    sums[STREAK] += 1
                    sums[LONGEST] = max(sums[LONGEST], sums[STREAK])
        self._packed = []
        return sums

    def restore(self, values: Tensor) -> None:
        """Go on from saved sums."""
        self._losses, self._norms, self._packed = [], [], []
        self._sums = values.tolist()

    def read(self, group: Dist) -> "StepMeans":
        """The means over all ranks. Waits for the device."""
        values = group.sum(self.values()).div_(group.world_size).tolist()
        return StepMeans(
            steps=round(values[GOOD] + values[BAD]),
            loss=values[LOSS] / values[GOOD] if values[GOOD] else float("nan"),
            grad_norm=values[GRAD_NORM] / values[GOOD] if values[GOOD] else float("nan"),
            bad_steps=round(values[BAD]),
            longest_streak=round(values[LONGEST]),
        )

    def clear(self) -> None:
        """Begin a new row; a row of bad steps goes on."""
        streak = self._added()[STREAK]
        self._sums = [0.0, 0.0, 0.0, 0.0, streak, streak]


@dataclass(frozen=True)
class StepMeans:
    """What a log line says of the ``steps`` since the last one: means over those whose loss and gradient were finite.

    ``longest_streak`` is the longest row of bad steps, ``bad_steps`` are all of them.
    """

    steps: int
    loss: float
    grad_norm: float
    bad_steps: int
    longest_streak: int
