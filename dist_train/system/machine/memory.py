"""Settings of the allocators of the C library and of torch on GPUs, and of Python's garbage collector. Imports no torch."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # malloc.h

GPU_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""The variables that configure torch's GPU allocator. torch reads them once."""


def expand_gpu_segments(cuda_graphs: bool) -> None:
    """Let torch's GPU allocator use expandable segments, if no variable configures it. Call this before torch is imported.

    By default a block that fits no hole of the reserved memory needs new memory: sizes that change (images of another size,
    an evaluation, the last micro-batch) fragment it. https://docs.pytorch.org/docs/stable/notes/cuda.html

    Args:
        cuda_graphs: the run records CUDA graphs. Restoring the memory of such a graph fails with expandable segments, at least
            until torch 2.12 (pytorch/pytorch#161356): then nothing is set.
    """
    if not cuda_graphs and not any(name in os.environ for name in GPU_ALLOCATOR):
        os.environ[GPU_ALLOCATOR[0]] = "expandable_segments:True"


def keep_freed_memory() -> None:
    """Let glibc keep and reuse the memory of freed CPU tensors. Does nothing with another C library.

    By default glibc returns every large block to the kernel, which clears its pages before it hands them out again. Reuse
    makes training steps of a small CNN on the CPU 1.4 times as fast (benchmarks/results/cpu_malloc.md).
    """
    _set({MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * 2**20})


@contextmanager
def restored_malloc() -> Iterator[None]:
    """Restore glibc's default settings after the block, and return freed memory to the kernel.

    glibc cannot report its settings, and the first call of ``mallopt`` stops the automatic growth of its two thresholds.
    So we set them to the values that they reach in a process that frees blocks of 32 MiB.
    """
    try:
        yield
    finally:
        _set({MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20, TOP_PAD: 128 * 2**10})
        return_freed_memory()


def return_freed_memory() -> None:
    """Return the memory that glibc keeps to the kernel. Call it before a fork.

    A forked process would keep the old content of this memory, once this process writes to it: 53 MB for each of two loader
    processes after the passes of a small ViT. The kernel clears a page for less time than it copies one.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _set(options: dict[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)


@contextmanager
def uncollected() -> Iterator[None]:
    """Stop Python's garbage collector in the block, which makes millions of objects that stay.

    The collector would look at all of them again and again. What no cycle holds is freed as always.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
