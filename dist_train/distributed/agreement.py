"""Agree on a number between all ranks, often enough and no more often.

The ranks exchange their numbers, and take the largest, through the CPU group and read the result one call later, so that
nobody waits. An exchange grows with the number of ranks (benchmarks/results/stop_flag.md). Among many ranks with short
steps it therefore happens at every k-th call only. The ranks exchange the length of their steps with the number, so that
all derive the same k from the same values.
"""

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from dist_train.distributed.group import Dist

MANY_RANKS = 32
"""From so many ranks on, not every call is an exchange: below, one takes less than about 2 ms."""
EVERY_S = 1.0
"""Seconds between two exchanges among many ranks, if steps are shorter."""
MOST_CALLS = 64
"""Calls between two exchanges, at most: limits how long ranks may go on if steps suddenly become longer."""


def calls_between(longest_s: float, world_size: int) -> int:
    """Return k for steps of at most ``longest_s`` seconds.

    >>> [calls_between(seconds, world_size=512) for seconds in (2.0, 0.3, 0.001)], calls_between(0.001, world_size=8)
    ([1, 3, 64], 1)
    """
    if world_size < MANY_RANKS:
        return 1
    return max(1, min(MOST_CALLS, int(EVERY_S / max(longest_s, 1e-6))))


class Agreement:
    """Exchanges the largest number of all ranks.

    Attributes:
        calls_between: k, the number of calls from the last exchange to the next one.
        exchanges: how many there were.
    """

    def __init__(self, group: "Dist") -> None:
        self._group = group
        self.calls_between = 1
        self.exchanges = 0
        self._wait = 1  # calls until the next exchange
        self._longest_s = 0.0
        self._last_call: float | None = None
        self._posted: tuple[torch.Tensor, torch.distributed.Work | None] | None = None

    def call(self, mine: int) -> int:
        """Return the largest number of all ranks at the last exchange, 0 if that was not at the last call.

        Every rank must call this equally often, and gets the same answer. One rank alone gets its own number, at once.
        """
        if self._group.world_size == 1:
            return mine
        now = time.monotonic()
        if self._last_call is not None:
            self._longest_s = max(self._longest_s, now - self._last_call)
        self._last_call = now
        agreed = self._read()
        self._wait -= 1
        if self._wait <= 0:
            self._post(mine)
        return agreed

    def new_pace(self) -> None:
        """Say that calls become more or less frequent from here on, and exchange at once. Every rank must call it."""
        self.calls_between, self._wait = 1, 1

    def _post(self, mine: int) -> None:
        numbers = torch.tensor([mine, int(self._longest_s * 1e6)], dtype=torch.int64)
        self._posted = numbers, self._group.post_max(numbers)
        self._longest_s = 0.0
        self._wait = self.calls_between
        self.exchanges += 1

    def _read(self) -> int:
        if self._posted is None:
            return 0
        numbers, work = self._posted
        self._posted = None
        assert work is not None
        work.wait()
        agreed, longest_us = numbers.tolist()
        # At most twice as many as before: one short step does not say that all are short.
        self.calls_between = min(2 * self.calls_between, calls_between(longest_us / 1e6, self._group.world_size))
        self._wait = self.calls_between
        return int(agreed)
