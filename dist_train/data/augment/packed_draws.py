"""The draws of a batch as one tensor, which travels to the device with the images."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dist_train.data.augment.draws import Draws

BOX, FLIP, OPERATIONS = slice(0, 4), 4, slice(5, None)
"""Columns of the tensor of draws; without a box the first four are zero."""


def packed(draws: Iterable["Draws"]) -> tuple[Tensor, Tensor]:
    """Return draws as a tensor int64 [B, 5 + operations], and rows that pick samples, int64 [1 + operations, B].

    The first row holds the samples sorted by flip, the next ones sorted by first operation, second operation, and so on.
    Slices of the rows pick samples on the device.
    """
    table = torch.tensor([[*(one.box or (0, 0, 0, 0)), int(one.flip), *one.codes] for one in draws])
    return table, table[:, FLIP:].argsort(dim=0, stable=True).T.contiguous()
