"""Measure the speed of each rank alone, to find a straggler: the time of a whole step is the same on all ranks."""

from collections.abc import Sequence
from statistics import median

import torch

from dist_train.system.machine.clock import awake_s

CONSPICUOUS = 1.5
"""A rank whose forward passes take this many times as long as those of the other ranks is named in the log."""
LOST_S, LOST_A_STEP_S = 0.1, 0.005
"""It is named only if it takes at least so much longer, over all steps of a row and per step. A pause of the operating system
makes one of a few short steps twice as long, and nobody looks for a millisecond."""


class ForwardClock:
    """Adds up the time of this rank's forward passes: of its ``with`` blocks.

    A forward pass contains no collective, so other ranks cannot slow it down. On a GPU it records events and reads them
    later, so measuring never waits. At world size 1 it measures nothing.
    """

    def __init__(self, device: torch.device, world_size: int) -> None:
        self._on_gpu = device.type == "cuda"
        self._alone = world_size == 1
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = self._began = 0.0

    def __enter__(self) -> None:
        if self._alone:
            return
        if self._on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            self._events.append((start, end))
        else:
            self._began = awake_s()

    def __exit__(self, *_: object) -> None:
        if self._alone:
            return
        if self._on_gpu:
            self._events[-1][1].record()
        else:
            self._seconds += awake_s() - self._began

    def take(self) -> float:
        """Return the seconds of all blocks since the last call. Waits for the device."""
        seconds = self._seconds
        for start, end in self._events:
            end.synchronize()
            seconds += start.elapsed_time(end) / 1000
        self._seconds, self._events = 0.0, []
        return seconds


def straggler(waited_W: Sequence[float], forward_W: Sequence[float], elapsed: float) -> dict[str, float]:
    """Return the columns of a log row that name the slowest of several ranks.

    Args:
        waited_W: seconds that each of the W ranks waited for data.
        forward_W: seconds that each rank spent in forward passes.
        elapsed: wall time of these steps in seconds.

    >>> straggler([0.0, 1.0, 0.0], [2.0, 6.0, 2.0], 10.0)
    {'data_wait_max': 0.1, 'slowest_rank': 1, 'slowest_ratio': 3.0}
    """
    slowest, others_s = _slowest(forward_W)
    ratio = round(forward_W[slowest] / others_s, 3) if others_s else 1.0
    return {"data_wait_max": max(waited_W) / elapsed, "slowest_rank": slowest, "slowest_ratio": ratio}


def conspicuous(forward_W: Sequence[float], steps: int) -> bool:
    """Return whether the slowest rank is so much slower than the others that the log names it.

    Args:
        forward_W: seconds that each of the W ranks spent in the forward passes of ``steps`` steps.

    >>> conspicuous([0.30, 0.15], steps=1), conspicuous([0.002, 0.001], steps=1), conspicuous([2.0, 1.0], steps=1000)
    (True, False, False)
    """
    slowest, others_s = _slowest(forward_W)
    lost_s = forward_W[slowest] - others_s
    return forward_W[slowest] > CONSPICUOUS * others_s and lost_s >= max(LOST_S, LOST_A_STEP_S * steps)


def _slowest(forward_W: Sequence[float]) -> tuple[int, float]:
    """Return the slowest rank, and the median of the seconds of the others."""
    slowest = max(range(len(forward_W)), key=lambda rank: forward_W[rank])
    return slowest, median([*forward_W[:slowest], *forward_W[slowest + 1 :]])
