"""How fast each rank works by itself, so that a straggler can be named: the others only wait for it."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

import torch

CONSPICUOUS = 1.5
"""A rank whose forward passes take this many times as long as the others' is worth a line in the log."""


class ForwardClock:
    """Adds up the time of this rank's forward passes.

    No collective runs in them, so no other rank can hold them up. On a GPU, events are recorded, and read
    later: measuring never waits. A rank without others is not measured.
    """

    def __init__(self, device: torch.device, world_size: int) -> None:
        self._on_gpu = device.type == "cuda"
        self._alone = world_size == 1
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def running(self) -> AbstractContextManager[None]:
        """Measure the block."""
        return nullcontext() if self._alone else self._measured()

    @contextmanager
    def _measured(self) -> Iterator[None]:
        if not self._on_gpu:
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    def take(self) -> float:
        """Seconds since the last call. Waits for the device."""
        seconds = self._seconds
        for start, end in self._events:
            end.synchronize()
            seconds += start.elapsed_time(end) / 1000
        self._seconds, self._events = 0.0, []
        return seconds


def straggler(waited_W: list[float], forward_W: list[float], elapsed: float) -> dict[str, float]:
    """The columns of a log row that name the slowest of several ranks.

    Args:
        waited_W, forward_W: seconds that each rank spent on waiting for data and on forward passes.
        elapsed: seconds that all of it took.

    >>> straggler([0.0, 1.0, 0.0], [2.0, 6.0, 2.0], 10.0)
    {'data_wait_max': 0.1, 'slowest_rank': 1, 'slowest_ratio': 3.0}
    """
    slowest = max(range(len(forward_W)), key=lambda rank: forward_W[rank])
    others = median(forward_W[:slowest] + forward_W[slowest + 1 :])
    ratio = round(forward_W[slowest] / others, 3) if others else 1.0
    return {"data_wait_max": max(waited_W) / elapsed, "slowest_rank": slowest, "slowest_ratio": ratio}
