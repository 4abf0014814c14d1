"""Memory in which loader processes hand over their batches.

It is anonymous and mapped before the processes are forked. So it needs no room in /dev/shm (64 MB in a Docker container), no
file descriptor for each batch, and its pages are reused. What goes through torch's queue besides is small and plain: torch
sends it in a thread, which prints an error and drops the batch, so that the training process would wait for ever.
"""

import itertools
import mmap
import os
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

Tensors = tuple[Tensor, ...]

NOTHING = -1
"""In the place of an image's index, when a process reads none."""
_PID, _READING, _TAGS = 0, 1, 2
_memories: "WeakValueDictionary[int, BatchMemory]" = WeakValueDictionary()
_numbers = itertools.count()


@dataclass(frozen=True)
class Parcel:
    """A batch whose first tensor lies in shared memory; the others, which are small, travel with it."""

    memory: int
    worker: int
    slot: int
    tag: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    rest: tuple[NDArray[Any], ...]

    def open(self) -> Tensors:
        """Return a copy of the batch."""
        return _memories[self.memory].copy_of(self, pinned=False)

    def pin_memory(self) -> Tensors:
        """Return a copy of the batch in page-locked memory. torch's pinning thread calls this."""
        return _memories[self.memory].copy_of(self, pinned=True)


class BatchMemory:
    """One ring of slots for each loader process.

    A process fills slot after slot. It is at most ``prefetch`` batches ahead of the training process, which copies a batch
    as soon as it receives it: with one slot more, no batch is overwritten before that.

    Args:
        batch_bytes: size of the first tensor of the largest batch.
    """

    def __init__(self, workers: int, prefetch: int, batch_bytes: int) -> None:
        self.workers, self._slots = workers, prefetch + 1
        self._slot_bytes = -(-batch_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pixels = mmap.mmap(-1, workers * self._slots * self._slot_bytes)
        table = mmap.mmap(-1, 8 * workers * (_TAGS + self._slots))
        self._table = np.frombuffer(table, dtype=np.int64).reshape(workers, -1)
        self._table[:, _READING] = NOTHING
        self._filled = 0
        self._number = next(_numbers)
        _memories[self._number] = self

    def note_process(self) -> NDArray[np.int64]:
        """Note that this loader process works here. Return the cell [1] for the index of the image that it reads."""
        row: NDArray[np.int64] = self._table[_worker()]
        row[_PID] = os.getpid()
        return row[_READING : _READING + 1]

    def processes(self) -> list[tuple[int, int]]:
        """Return the pid of each loader process, 0 if it has not started, and the index of the image that it reads."""
        return [(int(row[_PID]), int(row[_READING])) for row in self._table]

    def put(self, batch: Tensors) -> Parcel:
        """Copy a batch into the next slot of this loader process."""
        pixels, *rest = batch
        worker, slot = _worker(), self._filled % self._slots
        self._filled += 1
        if pixels.nbytes > self._slot_bytes:
            raise RuntimeError(f"a batch of {pixels.nbytes} bytes does not fit a slot of {self._slot_bytes}")
        self._table[worker, _TAGS + slot] = 0
        self._slot(worker, slot, tuple(pixels.shape), pixels.dtype).copy_(pixels)
        self._table[worker, _TAGS + slot] = self._filled
        self._table[worker, _READING] = NOTHING
        others = tuple(tensor.numpy() for tensor in rest)
        return Parcel(self._number, worker, slot, self._filled, tuple(pixels.shape), pixels.dtype, others)

    def copy_of(self, parcel: Parcel, pinned: bool) -> Tensors:
        """Return a copy of a batch that has arrived."""
        shared = self._slot(parcel.worker, parcel.slot, parcel.shape, parcel.dtype)
        pixels = shared.pin_memory() if pinned else shared.clone()
        if self._table[parcel.worker, _TAGS + parcel.slot] != parcel.tag:
            raise RuntimeError("a loader process has overwritten a batch before it was read")
        rest = [torch.from_numpy(array) for array in parcel.rest]
        return pixels, *(tensor.pin_memory() if pinned else tensor for tensor in rest)

    def release(self) -> None:
        """Give the pages back until they are needed again. Call it only when no batch is under way."""
        self._pixels.madvise(mmap.MADV_REMOVE)

    def _slot(self, worker: int, slot: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        start = (worker * self._slots + slot) * self._slot_bytes
        count = int(np.prod(shape))
        return torch.frombuffer(self._pixels, dtype=dtype, count=count, offset=start).view(shape)


def _worker() -> int:
    info = get_worker_info()
    assert info is not None
    return info.id
