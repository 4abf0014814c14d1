"""Numbers that are added up on the device and read once a log line, or once an evaluation."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dist_train.distributed import Dist

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


class SampleScores:
    """One row of scores per validation sample, summed in data-set order so that the sum is the same on any ranks."""

    NAMES = ("loss", "top1", "top5")
    predicted_N: NDArray[np.int32]
    """The class that each sample was taken for, on every rank; there after ``read``."""

    def __init__(self, length: int, device: torch.device) -> None:
        self._rows = torch.zeros((length, len(self.NAMES) + 1), dtype=torch.float64, device=device)

    def add(self, logits_BK: Tensor, labels_B: Tensor, indices_B: Tensor) -> None:
        """Score a batch: cross-entropy on hard labels, and whether the label is among the first 1 and 5."""
        logits_BK = logits_BK.float()
        first_B5 = logits_BK.topk(min(5, logits_BK.shape[1])).indices
        ranked = first_B5 == labels_B[:, None]
        loss = F.cross_entropy(logits_BK, labels_B, reduction="none")
        columns = (loss, ranked[:, 0], ranked.any(1), first_B5[:, 0])
        self._rows[indices_B] = torch.stack([column.double() for column in columns], dim=1)

    def read(self, group: Dist) -> dict[str, float]:
        """Mean loss, and top-1 and top-5 accuracy in percent, over all samples of all ranks."""
        rows = group.sum(self._rows).cpu()
        self.predicted_N = rows[:, -1].numpy().astype(np.int32)
        means = rows[:, :-1].mean(0).tolist()
        return {name: mean if name == "loss" else 100 * mean for name, mean in zip(self.NAMES, means, strict=True)}


def better(metric: str, new: float, old: float, by: float = 0.0) -> bool:
    """Whether ``new`` beats ``old``: a loss should fall, anything else should rise."""
    return new < old - by if metric == "loss" else new > old + by
