"""A start of a run by forked ranks, for the fire drill and the fuzz."""

import signal
import time

from dist_train.system.processes import alive, send
from tests.support.ranks import RankFailure, Ranks, collect


class ForkedStart:
    """Ranks forked with torch imported, as ``Started``; like torchrun it ends the others when one has died."""

    agent = None

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._died: float | None = None

    def ranks(self) -> list[int]:
        return [process.pid for process, _, _ in self._ranks]

    def running(self) -> bool:
        living = list(filter(alive, self.ranks()))
        if len(living) < len(self._ranks):
            self._died = self._died or time.monotonic()
            if time.monotonic() - self._died > 10:
                send(living, signal.SIGKILL)
        if not living:
            self._close()
        return bool(living)

    def _close(self) -> None:
        ranks, self._ranks = self._ranks, []
        try:
            collect(ranks, quiet=True)
        except RankFailure:
            return  # what became of the run is in its folder
