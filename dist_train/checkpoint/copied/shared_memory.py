"""The memory into which the trainer copies a state, and from which the writer process reads it."""

import ctypes
import logging
import mmap
import os
import threading
from typing import Any

import torch

log = logging.getLogger(__name__)

PART = 4 * 2**20
"""Bytes that are allocated at a time, in about 2 ms. Meanwhile other threads cannot map memory."""

MADV_POPULATE_WRITE = 23
"""Linux 5.14: have the kernel allocate pages as a write would do, with their content unchanged."""


class SharedMemory:
    """A memfd that grows. /dev/shm has a size limit, and a container's is often 64 MB.

    Its pages are allocated by a thread, as soon as the size is known: to allocate them in the first save would make that one
    4 to 5 times as long as the later ones.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("checkpoint")
        self._memory: mmap.mmap | None = None
        self._pinned = 0
        self._thread: threading.Thread | None = None

    def reserve(self, size: int, device: torch.device) -> None:
        """Allocate ``size`` bytes in a thread; pin them if ``device`` is a GPU, so that copies from it need no detour."""
        self._wait()
        self._thread = threading.Thread(
            target=self._allocate, args=(size, device), name="checkpoint memory", daemon=True
        )
        self._thread.start()

    def of(self, size: int) -> mmap.mmap:
        """Return a map of at least ``size`` bytes. Waits for ``reserve``."""
        self._wait()
        if self._memory is None or len(self._memory) < size:
            self._grow(size)
        assert self._memory is not None
        return self._memory

    def close(self) -> None:
        """Free the memory, when nothing refers to it any more: an error's traceback may hold tensors in it."""
        self._wait()
        self._unpin()
        self._memory = None
        os.close(self.fd)

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _grow(self, size: int) -> None:
        self._unpin()
        os.ftruncate(self.fd, size)
        self._memory = mmap.mmap(self.fd, size)

    def _allocate(self, size: int, device: torch.device) -> None:
        large_enough = self._memory is not None and len(self._memory) >= size
        if large_enough and (self._pinned or device.type != "cuda"):
            return
        try:
            if not large_enough:
                self._grow(size)
        except OSError as error:  # the first save tries it once more, and then it is an error
            log.warning("no memory for a copy of the state (%s); use `checkpoint.memory` (low)", error.strerror)
            return
        assert self._memory is not None
        pages = torch.frombuffer(self._memory, dtype=torch.uint8)
        for begin in range(0, size, PART):
            _populate(pages[begin : begin + PART])
        if device.type == "cuda":
            self._pin(pages, device)

    def _pin(self, pages: torch.Tensor, device: torch.device) -> None:
        torch.cuda.set_device(device)  # of this thread
        error = int(_cuda().cudaHostRegister(pages.data_ptr(), pages.nbytes, 0))
        if error:
            log.warning("the memory for checkpoints cannot be pinned (CUDA error %d): saves take longer", error)
        else:
            self._pinned = pages.data_ptr()

    def _unpin(self) -> None:
        if self._pinned:
            _cuda().cudaHostUnregister(self._pinned)
            self._pinned = 0


def _populate(part: torch.Tensor) -> None:
    """Allocate the pages of ``part`` and keep their content: a write in flight may come from this memory.

    An older kernel refuses the advice; then we read each page. But a page that was only read is not marked as changed, and on
    some virtual machines that mark costs the first write as much as the copy: the first save then takes 1.7 times as long as the
    next one (benchmarks/results/checkpoint_stall.md). Neither way holds the interpreter lock (GIL).
    """
    address, length = ctypes.c_void_p(part.data_ptr()), ctypes.c_size_t(part.nbytes)
    if ctypes.CDLL(None).madvise(address, length, MADV_POPULATE_WRITE):
        part[:: mmap.PAGESIZE].sum()


def _cuda() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
