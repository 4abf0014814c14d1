"""What happens when a rank makes no progress: its stacks are printed, and it is made to leave.

A signal handler in Python runs only when the main thread comes back to Python code. A rank that waits in a collective does not,
and one that waits for a batch goes on waiting after the handler. So a thread watches.
"""

import faulthandler
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, TextIO

from dist_train.system.machine.clock import used_s
from dist_train.system.processes import others_run
from dist_train.system.signals import STOP_SIGNALS, in_main_thread, wakeup_pipe

TICK_S = 0.5
GRACE_S = 4.0
"""How long a rank may go on waiting after a stop signal."""
LEAVE_S = 2.5
"""How long it then gets to leave by itself, before the thread ends the process."""
BUSY_S = 30.0
"""How long after a stop signal one step may compute, if the steps before it were shorter."""
STACKS_S = 1.0
"""After the timeout, for a rank alone: its stacks are printed first. A tick may count what passed before the last beat."""
LATE_S = 5.0
"""After the timeout: collectives with a timeout of their own raise a better error first."""
WORKS = 0.5
"""A thread that works runs on a core, or waits for one, for more than this share of the time between two looks."""

Why = Literal["stop", "hang"]
"""A stop signal, or no sign of life for the whole timeout."""


class Watchdog:
    """Makes the main thread leave where it waits after a stop signal, or shows no sign of life for ``timeout_s`` seconds.

    A rank that computes gets time to end its step. While it still begins, it has nothing to lose and gets none.

    Args:
        alone: whether this rank waits for no other one.
        exit_now: ends the process where the main thread does not leave within ``LEAVE_S``; None: never ends it.
    """

    def __init__(self, timeout_s: float, alone: bool, exit_now: Callable[[Why], None] | None) -> None:
        self._timeout_s, self._alone, self._exit_now = timeout_s, alone, exit_now
        self._interrupt: Callable[[Why], None] = lambda why: None
        self._reader = self._writer = -1
        self._main = Path("/dev/null")
        self._used_s = math.inf
        self.sole = False
        """Collectives have no limit of their own. On the CPU, where this may be, the main thread computes all steps."""
        self._resources = ExitStack()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._beginning, self._patient = True, False
        self._beats = 0
        self._quiet_s = self._idle_s = self._waited_s = self._unheard_s = self._last_step_s = 0.0
        self._signalled_s: float | None = None

    def start(self, interrupt: Callable[[Why], None]) -> None:
        """Watch the calling thread, if it is the main one, which alone can be interrupted.

        Args:
            interrupt: makes the main thread raise; called in the watching thread.
        """
        if in_main_thread():
            self._interrupt = interrupt
            self._reader, self._writer = self._resources.enter_context(wakeup_pipe())
            self._main = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
            self._used_s = used_s(self._main)
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    @property
    def ends_waits(self) -> bool:
        """Return whether a rank that waits for others in a collective is noticed, and ended, where nothing interrupts it."""
        return self._thread is not None and self._exit_now is not None and math.isfinite(self._used_s)

    def beat(self) -> None:
        """Report progress."""
        self._last_step_s = self._quiet_s
        self._quiet_s = self._idle_s = self._waited_s = self._unheard_s = 0.0
        self._beats += 1

    def alive(self) -> None:
        """Report a sign of life of a long work that this rank does or waits for: it does not hang."""
        self._unheard_s = 0.0

    def begin(self) -> None:
        """Say that the training begins: from here on, there is work to lose."""
        self._beginning = False
        self.beat()

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Wait in the block as long as it takes: for a disk that a checkpoint is written to."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
            self.beat()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._thread is not None:
            os.write(self._writer, b"\0")  # to wake it
            self._thread.join()
            self._thread = None
            self._resources.close()

    def _watch(self) -> None:
        then = time.monotonic()
        while not self._over.is_set():
            self._listen()
            now = time.monotonic()
            # Not the time in which the process was suspended.
            self._count(min(now - then, 2 * TICK_S))
            then = now
            why = self._reason_to_leave()
            if why is not None and not self._over.is_set():
                self._leave(why)

    def _listen(self) -> None:
        if not select.select([self._reader], [], [], TICK_S)[0]:
            return
        with suppress(BlockingIOError):
            if set(os.read(self._reader, 4096)) & set(STOP_SIGNALS) and self._signalled_s is None:
                self._signalled_s = 0.0

    def _count(self, passed: float) -> None:
        self._quiet_s += passed
        self._unheard_s += passed
        # Its threads' states, and not its time on a core: that is short on a busy machine too.
        self._idle_s = self._idle_s + passed if self._quiet_s > TICK_S and not others_run() else 0.0
        before, self._used_s = self._used_s, used_s(self._main)
        # Not by the states of all threads: on a busy machine one of them always waits for a core, such as a logger's.
        self._waited_s = self._waited_s + passed if self._used_s - before < WORKS * passed else 0.0
        if self._signalled_s is not None:
            self._signalled_s += passed

    def _reason_to_leave(self) -> Why | None:
        if self._patient:
            return None
        if self._signalled_s is not None and self._signalled_s > GRACE_S and self._waits():
            return "stop"
        return "hang" if self._hangs() else None

    def _waits(self) -> bool:
        if self._beginning:
            return True
        usual = 2 * self._last_step_s
        return min(self._quiet_s, self._idle_s) > max(GRACE_S, usual) or self._quiet_s > max(BUSY_S, usual)

    def _hangs(self) -> bool:
        if self._beginning:
            return False  # how long a scan or a download takes is not known
        # The first step may compile for long; a rank may compute for long, and wait for another one after that.
        waited_s = self._waited_s if self.sole else self._idle_s
        quiet_s = self._quiet_s if self._alone and self._beats > 2 else waited_s
        return min(quiet_s, self._unheard_s) > self._timeout_s + (STACKS_S if self._alone else LATE_S)

    def _leave(self, why: Why) -> None:
        self._interrupt(why)
        if not self._over.wait(LEAVE_S) and self._exit_now is not None:
            self._exit_now(why)
        self._over.set()


def interrupt_main_thread() -> None:
    """Make the main thread run a signal handler, also where it waits in a system call."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)


class StackDump:
    """Prints the Python stacks of this rank to stderr when ``beat`` was not called for ``timeout_s`` seconds.

    Each rank that hangs does this, so the log shows where each rank waits. The time in which the process was suspended does not
    count. A thread of Python prints them, and not faulthandler's own: that one reads the stacks while they change, and crashed one
    of eight ranks that went on after a suspension.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._file = _stderr()
        self._quiet_s = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Report progress."""
        self._quiet_s = 0.0
        if self._thread is None and self._file is not None:
            self._thread = threading.Thread(target=self._watch, args=(self._file,), name="stacks", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, file: TextIO) -> None:
        then, printed = time.monotonic(), False
        while not self._over.wait(min(TICK_S, self._timeout_s / 10)):
            now = time.monotonic()
            self._quiet_s += min(now - then, 2 * TICK_S)
            then = now
            if self._quiet_s < self._timeout_s:
                printed = False
            elif not printed:
                printed = True
                file.write(f"Timeout: no progress for {self._timeout_s:g} s. The stacks of this process:\n")
                file.flush()
                faulthandler.dump_traceback(file)


def _stderr() -> TextIO | None:
    """Return a stderr that is a real file; in a notebook ``sys.stderr`` is not one. Return None if there is none."""
    for stream in (sys.stderr, sys.__stderr__):
        with suppress(AttributeError, OSError):
            stream.fileno()  # type: ignore[union-attr]
            return stream
    return None
