"""How many ranks ``--nproc-per-node`` asks for: a number, or one of torchrun's words ``gpu``, ``cpu`` and ``auto``. Without torch."""

import argparse
import ctypes
import os
from contextlib import suppress

from dist_train.errors import ConfigError
from dist_train.system.machine.cores import usable_cores
from dist_train.system.terminal import positive

MOST = 1024
WORDS = ("gpu", "cpu", "auto")


def ranks(text: str) -> str:
    """Check the value of ``--nproc-per-node``; a type for argparse. ``count`` counts later: only a start needs the GPUs."""
    if text not in WORDS:
        try:
            positive(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or one of {', '.join(WORDS)}") from None
        if int(text) > MOST:
            raise argparse.ArgumentTypeError(f"{text} are more than the {MOST} ranks that one machine may have")
    return text


def count(text: str) -> int:
    """Return the number of ranks: one for each GPU (``gpu``), for each CPU that this process may use (``cpu``), or for
    each GPU and, without GPUs, for each CPU (``auto``).

    Raises:
        ConfigError: ``gpu``, and this process can use no GPU.
    """
    if text not in WORDS:
        return int(text)
    gpus = 0 if text == "cpu" else gpu_count()
    if text == "gpu" and not gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
        raise ConfigError(
            f"--nproc-per-node=gpu starts one rank for each GPU, and this process can use none{why}: look at `nvidia-smi`, or "
            "give a number; --nproc-per-node=auto starts one rank for each CPU then"
        )
    return gpus or usable_cores()


def gpu_count() -> int:
    """Return the number of GPUs that CUDA shows to this process.

    A forked process asks the driver: a process that has begun to use CUDA could not fork ranks that use it.
    """
    pid = os.fork()
    if not pid:
        found = 0
        try:
            with suppress(OSError, AttributeError):
                found = _ask_driver()
        finally:
            os._exit(found)
    return max(0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _ask_driver() -> int:
    cuda, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    failed = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number))
    return 0 if failed else min(number.value, 255)
