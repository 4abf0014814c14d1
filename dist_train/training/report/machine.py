"""Columns of a training row about the machine of rank 0: its card, its memory. They are read at log lines only."""

import logging
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from dist_train.model.network import Network
from dist_train.system.machine.clock import awake_s
from dist_train.system.machine.limits import free_memory, memory_limit
from dist_train.training.report.flops import peak_flops, training_flops

log = logging.getLogger(__name__)

GIB = 2**30
EVERY_S = 1.0
"""Rows within a second share one reading, which takes up to a millisecond."""
COUNTED = 2
"""Images in the batch whose operations are counted: BatchNorm needs more than one."""

OF_CARD: dict[str, Callable[[torch.device], float]] = {
    "gpu_util": lambda gpu: torch.cuda.utilization(gpu) / 100,
    "gpu_watts": lambda gpu: torch.cuda.power_draw(gpu) / 1000,
    "gpu_used_gb": lambda gpu: torch.cuda.device_memory_used(gpu) / GIB,
}
"""What torch asks NVML (or AMD SMI) for, without a wait for the device."""


class Machine:
    """Reads the columns of rank 0.

    Args:
        world_size: the number of ranks, of which each has a card like this one.
        recomputes: backward passes repeat the forward pass (``model.grad_checkpointing``), which MFU does not count.
    """

    def __init__(self, network: Network, device: torch.device, world_size: int, recomputes: bool) -> None:
        self._network, self._device, self._ranks, self._recomputes = network, device, world_size, recomputes
        on_gpu = device.type == "cuda"
        self._asked = dict(OF_CARD) if on_gpu else {}
        counts = on_gpu and network.head_alone is None  # else no pass through the model is counted, as there is none
        self._peak = peak_flops(torch.cuda.get_device_name(device)) if counts else None
        self._last: dict[str, float] = {}
        self._due = 0.0
        self._counted: tuple[int, float] | None = None
        self._flops_per_image()  # now, so that the start of the log says what is not recorded

    def columns(self, images_per_s: float | None) -> dict[str, float]:
        """Return the columns of a row. ``images_per_s`` is that of all ranks together."""
        now = awake_s()
        if now >= self._due:
            self._last, self._due = self._read(), now + EVERY_S
        row = dict(self._last)
        flops = self._flops_per_image()
        if flops is not None and self._peak is not None and images_per_s is not None:
            row["mfu"] = flops * images_per_s / (self._peak * self._ranks)
        return row

    def _read(self) -> dict[str, float]:
        used = memory_limit()[0] - free_memory()
        return {"host_mem_gb": used / GIB, **self._of_loaders(), **self._of_card()}

    def _of_loaders(self) -> dict[str, float]:
        own = [_own_bytes(process.pid) for process in multiprocessing.active_children() if process.daemon]
        return {"loader_mem_gb": sum(own) / GIB} if own else {}

    def _of_card(self) -> dict[str, float]:
        row = {}
        for name, ask in list(self._asked.items()):
            try:
                row[name] = float(ask(self._device))
            except Exception as error:  # noqa: BLE001 - NVML's errors are of a package that may be missing
                del self._asked[name]
                hint = " (pip install nvidia-ml-py)" if isinstance(error, ModuleNotFoundError) else ""
                log.info("%s is not recorded: %s%s", name, " ".join(str(error).split()), hint)
        return row

    def _flops_per_image(self) -> float | None:
        """Return the operations of forward and backward pass; counted again where more of the model trains."""
        if self._peak is None:
            return None
        trains = sum(parameter.requires_grad for parameter in self._network.module.parameters())
        if self._counted is None or self._counted[0] != trains:
            try:
                self._counted = trains, self._count()
            except Exception as error:  # noqa: BLE001 - a model's own code, which may not run on the meta device
                self._peak = None
                log.info("mfu is not recorded: the model cannot be counted (%s)", " ".join(str(error).split())[:200])
                return None
        return self._counted[1]

    def _count(self) -> float:
        module, shape = self._network.module, self._network.blank_shape(COUNTED)
        flops = training_flops(module, shape)
        return flops - training_flops(module, shape, backward=False) if self._recomputes else flops


def _own_bytes(process: int | None) -> int:
    """Return the memory that a process has, without files and shared memory; 0 if it has ended."""
    with suppress(OSError, ValueError):
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0
