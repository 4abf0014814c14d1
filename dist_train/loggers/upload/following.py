"""The uploader's side: follow ``metrics.jsonl`` and the trainer, end within a time limit."""

import json
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_FAILED, EXIT_INCOMPLETE
from dist_train.run.metrics_file import Row, RowFollower

POLL_S = 1.0
ORPHAN_FINISH_S = 20.0


def follow(send: Callable[[], None], trainer_pid: int) -> dict[str, Any]:
    """Call ``send`` every second until the trainer sends its status or dies. Return that status.

    Returns:
        ``status``, ``exit_code``, and ``limit_s``: the seconds that the rest of the upload may take.
    """
    died = {"status": "failed", "exit_code": EXIT_FAILED, "limit_s": ORPHAN_FINISH_S}
    while True:
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            line = sys.stdin.readline()
            return dict(json.loads(line)) if line.endswith("\n") else died
        if os.getppid() != trainer_pid:  # its forked loader workers may hold the pipe open
            return died
        send()


@contextmanager
def at_most(seconds: float, say: Callable[[str], None], advice: str) -> Iterator[None]:
    """End this process if the block takes longer than ``seconds``, since a client may wait for a server without a limit."""

    def give_up() -> None:
        say(f"not everything was uploaded within {seconds:.0f} s. {advice}")
        os._exit(EXIT_INCOMPLETE)

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class NewRows:
    """The rows of ``metrics.jsonl`` that the server does not have. The trainer may append rows at the same time."""

    def __init__(self, path: Path, logged: dict[str, int]) -> None:
        """Begin after the rows that the server has: ``logged``, by split the last step of them."""
        self._rows = RowFollower(path)
        self._logged = dict(logged)

    def take(self) -> Iterator[Row]:
        """Yield the rows that are new since the last call, and later than the last logged step of their split."""
        for row in self._rows.take():
            if row["step"] > self._logged.get(row["split"], -1):
                self._logged[row["split"]] = row["step"]
                yield row
