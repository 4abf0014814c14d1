"""Print the stacks of this rank when it makes no progress."""

import faulthandler
import sys
import time
from contextlib import suppress
from typing import TextIO


class StackDump:
    """Prints the Python stacks of this rank to stderr when ``beat`` was not called for ``timeout_s`` seconds.

    Each rank that hangs does this, so the log shows where each rank waits.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._file = _stderr()
        self._armed = -float("inf")

    def beat(self) -> None:
        """Report progress. Restarts the timer at most ten times per ``timeout_s``, since each restart creates a thread."""
        now = time.monotonic()
        if self._file is not None and now - self._armed > self._timeout_s / 10:
            faulthandler.dump_traceback_later(self._timeout_s, repeat=False, file=self._file)
            self._armed = now

    def close(self) -> None:
        """Stop the timer. A process has only one such timer, so this also stops one that other code started."""
        if self._armed > 0:
            faulthandler.cancel_dump_traceback_later()


def _stderr() -> TextIO | None:
    """Return a stderr that is a real file; in a notebook ``sys.stderr`` is not one. Return None if there is none."""
    for stream in (sys.stderr, sys.__stderr__):
        with suppress(AttributeError, OSError):
            stream.fileno()  # type: ignore[union-attr]
            return stream
    return None
