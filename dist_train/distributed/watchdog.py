"""Print this rank's stacks when it makes no progress."""

import faulthandler
import sys
import time
from contextlib import suppress
from typing import TextIO


class StackDump:
    """Prints this rank's Python stacks to stderr when ``beat`` has not been called for ``timeout_s`` seconds.

    Every rank that waits in vain does so, which shows who waits where, and for whom.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._file = _stderr()
        self._armed = -float("inf")

    def beat(self) -> None:
        """A sign of life. Arms the timer again at most ten times in its length: that costs a thread each time."""
        now = time.monotonic()
        if self._file is not None and now - self._armed > self._timeout_s / 10:
            faulthandler.dump_traceback_later(self._timeout_s, repeat=False, file=self._file)
            self._armed = now

    def close(self) -> None:
        """Disarm the timer: the process has one in all, so one that somebody else has armed ends too."""
        if self._armed > 0:
            faulthandler.cancel_dump_traceback_later()


def _stderr() -> TextIO | None:
    """Return a stderr that is a file, which a notebook's is not; None if there is none."""
    for stream in (sys.stderr, sys.__stderr__):
        with suppress(AttributeError, OSError):
            stream.fileno()  # type: ignore[union-attr]
            return stream
    return None
