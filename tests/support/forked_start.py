"""A start of a run by forked ranks, for the fire drill and the fuzz."""

import signal
import time
from pathlib import Path

from dist_train.system.processes import alive, send
from tests.support.ranks import RankFailure, Ranks, collect


class ForkedStart:
    """Ranks forked with torch imported, as ``Started``; like torchrun it ends the others when one has died."""

    agent = None
    said = ""
    """What the ranks printed, after their end."""
    hung = False
    """Whether a rank did not end within 15 s after a stop signal."""
    _warned = False

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._died: float | None = None

    def ranks(self) -> list[int]:
        return [process.pid for process, _, _ in self._ranks]

    def running(self) -> bool:
        living = list(filter(alive, self.ranks()))
        if len(living) < len(self._ranks):
            self._died = self._died or time.monotonic()
            gone_s = time.monotonic() - self._died
            if gone_s > 10 and not self._warned:
                send(living, signal.SIGTERM)
                self._warned = True
            if gone_s > 25 and not self.hung:
                self.hung = True
                send(living, signal.SIGABRT)  # Python prints the stacks, if faulthandler is on
            if gone_s > 28:
                send(living, signal.SIGKILL)
        if not living:
            self._close()
        return bool(living)

    def output(self) -> str:
        """Return what the ranks have printed."""
        return "\n".join(Path(file.name).read_text(errors="replace") for _, _, file in self._ranks)

    def _close(self) -> None:
        self.said = self.output()
        ranks, self._ranks = self._ranks, []
        try:
            collect(ranks, quiet=True)
        except RankFailure:
            return  # what became of the run is in its folder
