"""A row of numbers for each sample, from all ranks, on the host."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dist_train.distributed.group import Dist

FLUSH_BYTES = 64 * 2**20
"""Outputs are moved from the device to the host, and from rank to rank, in parts of about this size."""


class OutputRows:
    """The outputs of each sample, float32 [N + 1, K], on the host: all of them never lie on a GPU at once.

    The rows of other ranks are zeros that were never touched, and take no memory.
    """

    def __init__(self, length: int, outputs: int, device: torch.device) -> None:
        self._all = torch.from_numpy(np.zeros((length + 1, outputs), np.float32))
        self._device = device
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs_BK: Tensor, indices_B: Tensor) -> None:
        self._waiting.append((outputs_BK, indices_B))
        if len(self._waiting) * outputs_BK.nbytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        for outputs_BK, indices_B in self._waiting:
            self._all[indices_B.cpu()] = outputs_BK.cpu()
        self._waiting = []

    def of_all_ranks(self, group: "Dist", everywhere: bool = False) -> Tensor | None:
        """Return the outputs of all ranks, float32 [N, K], on rank 0 or ``everywhere``; else None. Every rank must call it."""
        self._flush()
        kept = group.is_main or everywhere
        every = self._all[:-1]
        if group.world_size > 1:
            rows = max(1, FLUSH_BYTES // (4 * every.shape[1]))
            for start in range(0, len(every), rows):
                part = every[start : start + rows]
                whole = group.sum(part.to(self._device, copy=True))
                if kept:
                    part.copy_(whole)
        return every if kept else None
