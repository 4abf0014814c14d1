"""``log.profile``: a trace of some steps on every rank, by torch.profiler."""

import logging
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from dist_train.system.machine.clock import awake_s

log = logging.getLogger(__name__)


class Profile:
    """Records the steps of a window, and writes their trace. Trouble gives a warning; training goes on.

    A start inside the window records the rest of it; one after the window, nothing.

    Args:
        window: the first and the last step, counted from the beginning of the run; None records nothing.
        folder: the traces of all ranks.
    """

    def __init__(self, window: tuple[int, int] | None, folder: Path, rank: int, device: torch.device) -> None:
        self._first, self._last = window or (0, 0)
        self._folder, self._rank, self._on_gpu = folder, rank, device.type == "cuda"
        self._running: torch_profile | None = None
        self._began = self._done = 0

    def begin(self, step: int) -> None:
        """Note that a step begins; the first step of a run is 1."""
        if self._running is not None or not self._first <= step <= self._last:
            return
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        try:
            if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]  # torch would end it, without a word
                raise RuntimeError("another one is running")
            running = torch_profile(activities=activities)
            running.start()
        except Exception as error:  # noqa: BLE001 - CUPTI has many errors
            self._first, self._last = 0, 0
            log.warning("`log.profile`: the profiler cannot start (%s)", " ".join(str(error).split()))
            return
        self._running, self._began = running, step

    def end(self, step: int) -> float:
        """Note that a step is done. Return the seconds for which this writes the trace, after the last step; else 0."""
        if self._running is None:
            return 0.0
        self._done = step
        if step < self._last:
            return 0.0
        began = awake_s()
        self.close()
        return awake_s() - began

    def close(self) -> None:
        """Write the trace of the steps so far, if there are any. Waits for a GPU."""
        running, self._running = self._running, None
        if running is None:
            return
        name = f"rank{self._rank}_steps{self._began}-{self._done}.json.gz"
        unfinished = self._folder / f".{name}"  # torch compresses a file whose name ends in .gz
        try:
            running.stop()
            if self._done < self._began:
                return  # stopped in the first step of the window
            self._folder.mkdir(exist_ok=True)
            running.export_chrome_trace(str(unfinished))
            os.replace(unfinished, self._folder / name)
        except Exception as error:  # noqa: BLE001 - as above; and a full disk
            log.warning("`log.profile`: no trace of rank %d (%s)", self._rank, " ".join(str(error).split()))
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            return
        if self._rank == 0:
            log.info(
                "trace of steps %d to %d: %s (open it in ui.perfetto.dev)", self._began, self._done, self._folder / name
            )

    def abandon(self) -> None:
        """End the attempt after an error. No wait for a GPU, where a collective may wait for a rank that is gone."""
        if self._on_gpu:
            self._running = None
        self.close()
