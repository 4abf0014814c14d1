"""Measure the speed of each rank alone, to find a straggler: the time of a whole step is the same on all ranks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

import torch

from dist_train.system.machine.clock import awake_s

CONSPICUOUS = 1.5
"""A rank whose forward passes take this many times as long as those of the other ranks is named in the log."""


class ForwardClock:
    """Adds up the time of this rank's forward passes.

    A forward pass contains no collective, so other ranks cannot slow it down. On a GPU it records events and reads them
    later, so measuring never waits. At world size 1 it measures nothing.
    """

    def __init__(self, device: torch.device, world_size: int) -> None:
        self._on_gpu = device.type == "cuda"
        self._alone = world_size == 1
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def running(self) -> AbstractContextManager[None]:
        """Return a context that measures its block."""
        return nullcontext() if self._alone else self._measured()

    @contextmanager
    def _measured(self) -> Iterator[None]:
        if not self._on_gpu:
            began = awake_s()
            yield
            self._seconds += awake_s() - began
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    def take(self) -> float:
        """Return the seconds of all blocks since the last call. Waits for the device."""
        seconds = self._seconds
        for start, end in self._events:
            end.synchronize()
            seconds += start.elapsed_time(end) / 1000
        self._seconds, self._events = 0.0, []
        return seconds


def straggler(waited_W: list[float], forward_W: list[float], elapsed: float) -> dict[str, float]:
    """Return the columns of a log row that name the slowest of several ranks.

    Args:
        waited_W: seconds that each of the W ranks waited for data.
        forward_W: seconds that each rank spent in forward passes.
        elapsed: wall time of these steps in seconds.

    >>> straggler([0.0, 1.0, 0.0], [2.0, 6.0, 2.0], 10.0)
    {'data_wait_max': 0.1, 'slowest_rank': 1, 'slowest_ratio': 3.0}
    """
    slowest = max(range(len(forward_W)), key=lambda rank: forward_W[rank])
    others = median(forward_W[:slowest] + forward_W[slowest + 1 :])
    ratio = round(forward_W[slowest] / others, 3) if others else 1.0
    return {"data_wait_max": max(waited_W) / elapsed, "slowest_rank": slowest, "slowest_ratio": ratio}
