"""A tensor of which each rank has some rows: in a state that is saved (``Piece``), and in the files of all ranks (``Rows``)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """The rows of a tensor that this rank has. A state for ``Checkpoints.save`` has it in place of the tensor.

    The pieces of all ranks, one after the other, are the whole tensor. Every rank has one, which may have no rows.

    Attributes:
        tensor: [rows, ...], of any device.
        begin: the place of its first row in the whole tensor.
        shape: of the whole tensor.
    """

    tensor: Tensor
    begin: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """A tensor whose rows lie in the files of several ranks. They are read on demand.

    Attributes:
        shape: of the whole tensor.
        pieces: the place of the first row and a function that reads the piece, in the order of rows.
    """

    shape: tuple[int, ...]
    pieces: Sequence[tuple[int, Callable[[], Tensor]]]

    def between(self, begin: int, end: int) -> Tensor:
        """Return the rows from ``begin`` to ``end`` on the CPU. If one file has them all, they are a map of that file."""
        ends = [start for start, _ in self.pieces[1:]] + [self.shape[0]]
        wanted = [
            read()[max(begin - start, 0) : end - start]
            for (start, read), stop in zip(self.pieces, ends, strict=True)
            if start < end and begin < stop
        ]
        if not wanted:
            return self.pieces[0][1]()[:0]
        return wanted[0] if len(wanted) == 1 else torch.cat(wanted)

    def whole(self) -> Tensor:
        """Return the whole tensor on the CPU."""
        return self.between(0, self.shape[0])
