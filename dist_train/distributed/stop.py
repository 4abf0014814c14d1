"""Stop all ranks at the same step, after a signal or at the time limit.

A signal handler only sets a flag. Each step sends the flag to the other ranks through a CPU group and reads the result
of the step before. So a signal to one rank stops all ranks at the same step, within two steps, without waiting. Among
many ranks with short steps not every step does so, and it takes up to one second more: see ``agreement``.

A rank that does not come to its next step, and one that has not begun to train, cannot stop with the others: there the
handler raises ``StopNow``.
"""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from dist_train.distributed.agreement import Agreement
from dist_train.distributed.group import Dist
from dist_train.distributed.heartbeat import heard
from dist_train.distributed.patience import set_patience
from dist_train.distributed.watchdog import StackDump, Watchdog, Why, interrupt_main_thread
from dist_train.errors import CommError, DistTrainError
from dist_train.system.machine.clock import awake_s
from dist_train.system.signals import heard_signals, in_main_thread


class StopNow(BaseException):
    """A stop signal came, and this rank cannot stop with the others. Not an ``Exception``, which the user's code may catch."""


AT_END, AT_LIMIT, AT_SIGNAL = 1, 2, 3
"""Why a rank asks the others to stop. If ranks have several reasons, the highest counts. ``AT_END``: a hook ends the run, so
the ranks do not stop here: they evaluate and finish it."""


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
        watchdog: makes this rank leave where it waits; without one it stops in ``agreed`` only.
    """

    def __init__(
        self, group: Dist, limit: Limit | None = None, timeout_s: float = 600, watchdog: Watchdog | None = None
    ) -> None:
        self.reason = ""
        self.ending = False
        self._wants_end = False
        self._watchdog = watchdog
        self._beginning = watchdog is not None
        self._why: Why | None = None
        self._stacks: StackDump | None = None
        self._hearing = ExitStack()
        self._timeout_s = timeout_s
        self._error: DistTrainError | None = None
        self._limit_reason = "time limit of another rank" if limit is None else f"time limit: {limit.source}"
        self._deadline = None if limit is None else awake_s() + limit.seconds
        self._reserve_s = self._longest_step_s = 0.0
        self._last_call: float | None = None
        self._group = group
        self._agreement = Agreement(group)

    def __enter__(self) -> "StopRequest":
        self._stacks = StackDump(self._timeout_s)
        self._stacks.beat()
        self._hearing.enter_context(heard(self._stacks.beat))
        if in_main_thread():
            for number in heard_signals():
                signal.signal(number, self._note)
        if self._watchdog is not None:
            self._watchdog.start(self._leave)
            self._hearing.enter_context(heard(self._watchdog.alive))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to watch. The signal handlers stay, so that a late signal does not kill a run that is ending."""
        self._beginning = False
        self._hearing.close()
        if self._stacks is not None:
            self._stacks.close()
        self.settled()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        why, self._why = self._why, None
        if why == "hang":
            raise self.hang()
        if why == "stop":
            raise StopNow(self.reason)
        if number == signal.SIGINT and self.reason == "SIGINT":
            raise KeyboardInterrupt  # the second Ctrl-C stops at once
        self.reason = signal.Signals(number).name
        if self._beginning:
            self._beginning = False  # further signals do not disturb the leaving
            raise StopNow(self.reason)

    def _leave(self, why: Why) -> None:
        self._why = why
        interrupt_main_thread()

    def hang(self) -> DistTrainError:
        """Return the error after ``timeout_s`` without progress; of several ranks, each may wait for another one."""
        kind = DistTrainError if self._group.world_size == 1 else CommError
        return kind(
            f"no progress for `distributed.timeout_s` ({self._timeout_s:.0f}) seconds; the stacks above show where this "
            "process waits. Raise it if a step or an evaluation takes so long; the same command continues from the last "
            "checkpoint"
        )

    def begin(self) -> None:
        """Say that the training begins: from here on, a signal stops all ranks at the same step."""
        self._beginning = False
        if self._watchdog is not None:
            self._watchdog.begin()
            self._leave_to_watchdog(True)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Wait in the block as long as it takes, for a disk that a checkpoint is written to."""
        if self._watchdog is None:
            yield
            return
        self._leave_to_watchdog(False)
        with self._watchdog.patience():
            yield
        self._leave_to_watchdog(True)

    def _leave_to_watchdog(self, watched: bool) -> None:
        """Let the watchdog limit how long collectives wait, if it can end a wait; or the collectives themselves."""
        if self._watchdog is not None and self._watchdog.ends_waits and self._group.device.type == "cpu":
            self._watchdog.sole = watched
            set_patience(self._group, watched)

    def settled(self) -> None:
        """Say that the training ends in order: what follows takes as long as it takes."""
        if self._watchdog is not None:
            self._leave_to_watchdog(False)
            self._watchdog.stop()
            self._why = None

    def reserve(self, seconds: float) -> None:
        """Reserve at least this many seconds before the time limit for the final save."""
        self._reserve_s = max(self._reserve_s, seconds)

    def ask_to_end(self) -> None:
        """Ask all ranks to end the run. When they know, ``agreed`` sets ``ending``, and returns False."""
        self._wants_end = True

    def fail(self, error: DistTrainError) -> None:
        """Make the next call of ``agreed`` raise ``error`` on this rank. For use by other threads."""
        self._error = error

    def agreed(self) -> bool:
        """Return whether all ranks stop here. Every rank must call this once per step, and gets the same answer."""
        if self._error is not None:
            raise self._error
        if self._stacks is not None:
            self._stacks.beat()
        if self._watchdog is not None:
            self._watchdog.beat()
        if self._deadline is not None and self._stop_would_end(awake_s()) > self._deadline:
            self.reason = self.reason or self._limit_reason
        cause = self._exchanged()
        self.ending = self.ending or cause == AT_END
        stopping = cause > AT_END
        if stopping:
            self.settled()
        return stopping

    def _cause(self) -> int:
        if not self.reason:
            return AT_END if self._wants_end else 0
        return AT_LIMIT if self.reason == self._limit_reason else AT_SIGNAL

    def _exchanged(self) -> int:
        """Return the highest cause that a rank had to stop at its last exchange, 0 if none; with one rank, the cause of now."""
        agreed = self._agreement.call(self._cause())
        if agreed > AT_END:
            others = self._limit_reason if agreed == AT_LIMIT else "another rank received a stop signal"
            self.reason = self.reason or others
        return agreed

    def new_pace(self) -> None:
        """Say that the calls of ``agreed`` become more or less frequent: an evaluation begins or ends."""
        self._agreement.new_pace()

    def _stop_would_end(self, now: float) -> float:
        """Return the time at which a stop that starts ``now`` ends: the ranks agree, then save."""
        if self._last_call is not None:
            # The factor lets the estimate decay after a slow first step.
            self._longest_step_s = max(now - self._last_call, 0.9 * self._longest_step_s)
        self._last_call = now
        steps = self._agreement.calls_between + 2  # until the next exchange, until its result is read, and this one
        return now + steps * self._longest_step_s + self._reserve_s
