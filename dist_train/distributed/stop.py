"""Stop all ranks at the same step, after a signal or at the time limit.

A signal handler only sets a flag. Each step sends the flag to the other ranks through a CPU group and reads the result
of the step before. So a signal to one rank stops all ranks at the same step, within two steps, without waiting.
"""

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType

import torch

from dist_train.distributed.group import Dist
from dist_train.distributed.heartbeat import heard
from dist_train.distributed.watchdog import StackDump
from dist_train.errors import DistTrainError
from dist_train.system.signals import STOP_SIGNALS, in_main_thread

AT_LIMIT, AT_SIGNAL = 1, 2
"""Why a rank asks the others to stop. If ranks have both reasons, the signal counts."""


@dataclass(frozen=True)
class Limit:
    """Seconds from now until a run must have stopped, and where this limit comes from."""

    seconds: float
    source: str


class StopRequest:
    """Watches for stop signals and for the time limit while its ``with`` block runs.

    Signals work in the main thread only, because Python runs signal handlers only there.

    Args:
        group: the ranks that must agree.
        limit: the time limit; None means no limit.
        timeout_s: print the stacks of this rank after this many seconds without a call of ``agreed``.
    """

    def __init__(self, group: Dist, limit: Limit | None = None, timeout_s: float = 600) -> None:
        self.reason = ""
        self._stacks: StackDump | None = None
        self._hearing = ExitStack()
        self._timeout_s = timeout_s
        self._error: DistTrainError | None = None
        self._group = group
        self._limit_reason = "time limit of another rank" if limit is None else f"time limit: {limit.source}"
        self._deadline = None if limit is None else time.monotonic() + limit.seconds
        self._reserve_s = self._longest_step_s = 0.0
        self._last_call: float | None = None
        self._posted: tuple[torch.Tensor, torch.distributed.Work | None] | None = None

    def __enter__(self) -> "StopRequest":
        self._stacks = StackDump(self._timeout_s)
        self._stacks.beat()
        self._hearing.enter_context(heard(self._stacks.beat))
        if in_main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the watchdog. The signal handlers stay, so that a late signal does not kill a run that is ending."""
        self._hearing.close()
        if self._stacks is not None:
            self._stacks.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason == "SIGINT":
            raise KeyboardInterrupt  # the second Ctrl-C stops at once
        self.reason = signal.Signals(number).name

    def reserve(self, seconds: float) -> None:
        """Reserve at least this many seconds before the time limit for the final save."""
        self._reserve_s = max(self._reserve_s, seconds)

    def fail(self, error: DistTrainError) -> None:
        """Make the next call of ``agreed`` raise ``error`` on this rank. For use by other threads."""
        self._error = error

    def agreed(self) -> bool:
        """Return whether all ranks stop here. Every rank must call this once per step, and gets the same answer."""
        if self._error is not None:
            raise self._error
        if self._stacks is not None:
            self._stacks.beat()
        if self._deadline is not None and self._stop_would_end(time.monotonic()) > self._deadline:
            self.reason = self.reason or self._limit_reason
        if self._group.world_size == 1:
            return bool(self.reason)
        before = self._posted
        cause = 0 if not self.reason else AT_LIMIT if self.reason == self._limit_reason else AT_SIGNAL
        flag = torch.tensor([cause], dtype=torch.uint8)
        self._posted = flag, self._group.post_max(flag)
        if before is None:
            return False
        stopping, work = before
        assert work is not None
        work.wait()
        if stopping.item():
            others = self._limit_reason if stopping.item() == AT_LIMIT else "another rank received a stop signal"
            self.reason = self.reason or others
        return bool(stopping.item())

    def _stop_would_end(self, now: float) -> float:
        """Return the time at which a stop that starts ``now`` ends: the ranks agree within two steps, then save."""
        if self._last_call is not None:
            # The factor lets the estimate decay after a slow first step.
            self._longest_step_s = max(now - self._last_call, 0.9 * self._longest_step_s)
        self._last_call = now
        return now + 3 * self._longest_step_s + self._reserve_s
