"""Write checkpoints in the trainer itself, straight from its tensors: ``checkpoint.memory: low``.

It does not copy the state: training waits until the checkpoint is on disk.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from dist_train.checkpoint.format import Layout
from dist_train.checkpoint.manifest import Job
from dist_train.checkpoint.writing import Piece, answer_of

PIECE = 8 * 2**20


class DirectWriter:
    """Has the methods of ``BackgroundWriter``; ``begin`` does all of the work."""

    def __init__(self) -> None:
        self._answer = ""

    def start(self) -> None:
        """Do nothing: all is imported."""

    def reserve(self, size: int, device: torch.device) -> None:
        """Do nothing: no memory is needed."""

    def begin(self, job: Job, layout: Layout, late: Callable[[str], bool]) -> None:
        """Write the checkpoint."""
        self._answer = answer_of(job, partial(payload_of, layout))

    def before_update(self) -> None:
        """Do nothing: all is written."""

    def settle(self) -> None:
        """Do nothing: all is written."""

    def answers_within(self, limit_s: float) -> bool:
        """Return True: the answer is there."""
        return True

    def answer(self) -> str:
        """Return an empty text, or what went wrong."""
        return self._answer

    def kill(self) -> None:
        """Do nothing: this writer has no process of its own."""

    def close(self) -> None:
        """Do nothing: this writer has no process of its own."""


def payload_of(layout: Layout, begin: int, end: int) -> Iterator[Piece]:
    """Return the bytes from one place to another of a state's tensors. Both places must lie between two tensors."""
    for offset, tensor in layout.tensors:
        if begin <= offset and offset + tensor.nbytes <= end:
            yield from _bytes_of(tensor)


def _bytes_of(tensor: Tensor) -> Iterator[Piece]:
    """Return a tensor's bytes in pieces. A tensor of a GPU is copied piece by piece, one that has gaps as a whole."""
    if tensor.nbytes:
        flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
        for begin in range(0, len(flat), PIECE):
            yield flat[begin : begin + PIECE].cpu().numpy().data
