"""Stops that all ranks make at the same step. The only owner of ``signal``.

A handler only sets a flag. Each step posts the flag to the other ranks on a CPU group and reads the answer to
the step before, so a signal to a single rank stops every rank at one step, within two steps, and nobody waits.
"""

import signal
import time
from types import FrameType

import torch

from dist_train.distributed.group import Dist
from dist_train.distributed.watchdog import StackDump
from dist_train.errors import DistTrainError
from dist_train.system.signals import STOP_SIGNALS, in_main_thread


class StopRequest:
    """Listens for stop signals while its ``with`` block runs, and for the end of the time allowed.

    In a thread other than the main one it hears no signals: Python sets and calls handlers in the main thread only.

    Args:
        group: the ranks that must agree.
        seconds: time allowed from now on; None is without end.
        timeout_s: after this long without a call of ``agreed`` the stacks of this rank are printed.
    """

    def __init__(self, group: Dist, seconds: float | None = None, timeout_s: float = 600) -> None:
        self.reason = ""
        self._stacks: StackDump | None = None
        self._timeout_s = timeout_s
        self._error: DistTrainError | None = None
        self._group = group
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._reserve_s = self._pace_s = 0.0
        self._asked: float | None = None
        self._posted: tuple[torch.Tensor, torch.distributed.Work | None] | None = None

    def __enter__(self) -> "StopRequest":
        self._stacks = StackDump(self._timeout_s)
        self._stacks.beat()
        if in_main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching the time. Signals go on to be noted, so that a late one does not kill an orderly end."""
        if self._stacks is not None:
            self._stacks.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason == "SIGINT":
            raise KeyboardInterrupt  # the second Ctrl-C means now
        self.reason = signal.Signals(number).name

    def reserve(self, seconds: float) -> None:
        """Keep at least this much of the time allowed for what a stop has to do: finish a step, save."""
        self._reserve_s = max(self._reserve_s, seconds)

    def fail(self, error: DistTrainError) -> None:
        """Have the next call of ``agreed`` raise ``error`` on this rank; for other threads."""
        self._error = error

    def agreed(self) -> bool:
        """Whether all ranks stop here. Every rank calls this once a step, and gets the same answer."""
        if self._error is not None:
            raise self._error
        if self._stacks is not None:
            self._stacks.beat()
        if self._deadline is not None and self._measured(time.monotonic()) > self._deadline:
            self.reason = self.reason or "time limit"
        if self._group.world_size == 1:
            return bool(self.reason)
        before = self._posted
        flag = torch.tensor([bool(self.reason)], dtype=torch.uint8)
        self._posted = flag, self._group.post_max(flag)
        if before is None:
            return False
        stopping, work = before
        assert work is not None
        work.wait()
        if stopping.item():
            self.reason = self.reason or "another rank was told to stop"
        return bool(stopping.item())

    def _measured(self, now: float) -> float:
        """When a stop decided ``now`` would be over: the ranks agree within two steps, and then save."""
        if self._asked is not None:
            self._pace_s = max(now - self._asked, 0.9 * self._pace_s)  # forgets a slow start
        self._asked = now
        return now + 3 * self._pace_s + self._reserve_s
