"""Loss and gradient norm of each step, kept on the device and read once per log line."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError

LOSS, GRAD_NORM, GOOD, BAD, STREAK, LONGEST = range(6)

PACK = 256
"""The scalars of this many steps are packed into one tensor, so that few small tensors stay on the device."""


class StepSums:
    """Running sums over the steps since the last row.

    ``add`` keeps the scalars of a step on the device and does no arithmetic there: that would cost more time than the
    rest of a step's bookkeeping. The scalars are added up, in the order of steps, when the sums are read.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums = [0.0] * 6
        self._extras: dict[str, float] = {}
        self._steps: list[Tensor] = []
        self._packed: list[Tensor] = []

    def add(self, loss: Tensor, grad_norm: Tensor, extras: dict[str, Tensor]) -> None:
        """Add one step. All arguments are scalars on the device.

        Args:
            extras: the other scalars of the objective; the names must be the same at every step.

        Raises:
            ConfigError: the names differ from those of the step before.
        """
        if extras.keys() != self._extras.keys():
            self._name_extras(extras)
        self._steps += (loss, grad_norm, *(extras[name] for name in self._extras))
        if len(self._steps) == PACK * self._columns:
            self._pack()

    def _name_extras(self, extras: dict[str, Tensor]) -> None:
        if self._extras or self._steps or self._packed:
            raise ConfigError(
                f"`loss.objective` returns the scalars {sorted(extras)} and the loss, but before it returned "
                f"{sorted(self._extras)}: return the same names at every step"
            )
        self._extras = dict.fromkeys(sorted(extras), 0.0)

    @property
    def _columns(self) -> int:
        return 2 + len(self._extras)

    def _pack(self) -> None:
        if self._steps:
            self._packed.append(torch.stack(self._steps).view(-1, self._columns))
            self._steps = []

    def values(self) -> Tensor:
        """Return the sums, float64 [6]. Waits for the device.

        They are: the sum of losses and the sum of gradient norms over good steps, the number of good steps, the number
        of bad steps (loss or gradient not finite), the current streak of bad steps, and the longest streak.
        """
        return torch.tensor(self._added(), dtype=torch.float64, device=self._device)

    def extra_values(self) -> dict[str, Tensor]:
        """Return the sums of the objective's other scalars over good steps, float64 []. Waits for the device."""
        self._added()
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self._device) for name, value in self._extras.items()
        }

    def _added(self) -> list[float]:
        self._pack()
        sums = self._sums
        for steps in self._packed:
            for loss, norm, *extras in steps.tolist():
                if math.isfinite(loss) and math.isfinite(norm):
                    sums[LOSS] += loss
                    sums[GRAD_NORM] += norm
                    sums[GOOD] += 1
                    sums[STREAK] = 0.0
                    for name, value in zip(self._extras, extras, strict=True):
                        self._extras[name] += value
                else:
                    sums[BAD] += 1
                    sums[STREAK] += 1
                    sums[LONGEST] = max(sums[LONGEST], sums[STREAK])
        self._packed = []
        return sums

    def restore(self, values: Tensor, extras: dict[str, Tensor]) -> None:
        """Continue from saved sums."""
        self._steps, self._packed = [], []
        self._sums = values.tolist()
        self._extras = {name: value.item() for name, value in extras.items()}

    def read(self, group: Dist) -> "StepMeans":
        """Return the means over all ranks. Waits for the device; every rank must call it."""
        mine = torch.tensor([*self._added(), *self._extras.values()], dtype=torch.float64, device=self._device)
        values = group.sum(mine).div_(group.world_size).tolist()
        good = values[GOOD] or math.nan
        return StepMeans(
            steps=round(values[GOOD] + values[BAD]),
            loss=values[LOSS] / good,
            grad_norm=values[GRAD_NORM] / good,
            extras={name: value / good for name, value in zip(self._extras, values[6:], strict=True)},
            bad_steps=round(values[BAD]),
            longest_streak=round(values[LONGEST]),
        )

    def clear(self) -> None:
        """Start a new row of the log; a current streak of bad steps continues."""
        streak = self._added()[STREAK]
        self._sums = [0.0, 0.0, 0.0, 0.0, streak, streak]
        self._extras = dict.fromkeys(self._extras, 0.0)


@dataclass(frozen=True)
class StepMeans:
    """Means over the steps since the last row whose loss and gradient were finite.

    Attributes:
        steps: the number of all steps since the last row.
        extras: the means of the objective's other scalars, by name.
        bad_steps: the number of steps whose loss or gradient was not finite.
        longest_streak: the most bad steps in a row.
    """

    steps: int
    loss: float
    grad_norm: float
    extras: dict[str, float]
    bad_steps: int
    longest_streak: int
