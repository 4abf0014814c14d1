"""What a program can see of its own process, for tests that something leaves it as it was."""

import ctypes
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import cv2
import numpy as np
import torch

from dist_train.system.processes import children


def snapshot() -> dict[str, Any]:
    """Return settings, handlers, generators, and what runs or is open."""
    log, matmul, cudnn = logging.getLogger("dist_train"), torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "handlers": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "log": (list(log.handlers), log.level, log.propagate, list(logging.getLogger().handlers)),
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "python's generator": random.getstate(),
        "numpy's generator": [part.tobytes() if hasattr(part, "tobytes") else part for part in np.random.get_state()],
        "torch's generator": torch.default_generator.get_state().numpy().tobytes(),
        "algorithms": (torch.are_deterministic_algorithms_enabled(), cudnn.benchmark, cudnn.deterministic),
        "new memory is filled": torch.utils.deterministic.fill_uninitialized_memory,
        "tf32": (matmul.fp32_precision, cudnn.conv.fp32_precision, matmul.allow_tf32, cudnn.allow_tf32),  # type: ignore[attr-defined]
        "gradients": torch.is_grad_enabled(),
        "opencv's threads": cv2.getNumThreads(),
        "torch's threads": torch.get_num_threads(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "process group": torch.distributed.is_initialized(),
        "large blocks are mapped": _maps_large_blocks(),
        **_running(),
    }


ENDING = ("QueueFeederThread", "heartbeat")
"""Threads that end soon by themselves."""


def _running() -> dict[str, Any]:
    """Threads, child processes and open files; those that are ending get five seconds."""
    deadline = time.monotonic() + 5
    while any(thread.name in ENDING for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": children(os.getpid()),
        "files": sorted(filter(None, map(_file, os.listdir("/proc/self/fd")))),
    }


def _file(number: str) -> str:
    try:
        return f"{number} {os.readlink(f'/proc/self/fd/{number}')}"
    except FileNotFoundError:  # the listing's own
        return ""


def _maps_large_blocks() -> bool:
    """Whether the C library maps a block of 80 MiB by itself: it lies then at the start of a page, 16 bytes in."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    block = libc.malloc(80 * 2**20)
    libc.free(block)
    return bool(block % 4096 == 16)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what differs, by name: before and after."""
    return {key: (value, after[key]) for key, value in before.items() if after[key] != value}
