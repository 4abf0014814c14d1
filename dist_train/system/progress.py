"""Say how far long work is, in the log, while it goes on."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dist_train.system.machine.clock import awake_s

log = logging.getLogger(__name__)

REPORT_EVERY_S, PASS_ON_EVERY_S = 10.0, 1.0


class Progress:
    """Counts what is done, and writes a line to the log every ``REPORT_EVERY_S`` seconds.

    Args:
        doing: what is done, such as "scanning /data".
        unit: what is counted, such as "files".
        total: how many there are; None if nobody knows.
    """

    def __init__(self, doing: str, unit: str, total: int | None = None) -> None:
        self._doing, self._unit, self._total = doing, unit, total
        self._done = 0
        self._began = self._said = awake_s()

    def add(self, count: int = 1) -> None:
        """Count ``count`` more."""
        self._done += count
        now = awake_s()
        if now - self._said > REPORT_EVERY_S:
            self._said = now
            log.info("%s: %s after %.0f s", self._doing, self._so_far(), now - self._began)

    def _so_far(self) -> str:
        if not self._total:
            return f"{self._done:,} {self._unit}"
        return f"{self._done:,} of {self._total:,} {self._unit} ({self._done / self._total:.0%})"


class _PassedOn(Progress):
    """Gives another process the count, about once a second, in place of a line to the log."""

    def __init__(self, give: Callable[[int], object]) -> None:
        super().__init__("", "")
        self._give = give

    def add(self, count: int = 1) -> None:
        self._done += count
        now = awake_s()
        if now - self._said > PASS_ON_EVERY_S:
            self._said = now
            self.give()

    def give(self) -> None:
        """Give what nobody has been given yet."""
        self._give(self._done)
        self._done = 0


_shown: list[Progress] = []
_advanced = 0


@contextmanager
def shown(doing: str, unit: str, total: int | None = None) -> Iterator[None]:
    """Show the progress of the block, whose functions call ``advance``, at any depth."""
    _shown.append(Progress(doing, unit, total))
    try:
        yield
    finally:
        _shown.pop()


@contextmanager
def passed_on(give: Callable[[int], object]) -> Iterator[None]:
    """Call ``give`` with the progress of the block, for a process whose progress another one shows."""
    progress = _PassedOn(give)
    _shown.append(progress)
    try:
        yield
        progress.give()
    finally:
        _shown.pop()


def advance(count: int = 1) -> None:
    """Count for the innermost ``shown`` block."""
    global _advanced
    _advanced += 1
    if _shown:
        _shown[-1].add(count)


def advanced() -> int:
    """Return how often ``advance`` was called in this process: a sign of life."""
    return _advanced
