"""A process of its own that follows ``metrics.jsonl`` and logs its rows to one W&B run. Started by ``WandbLogger``.

``python -m dist_train.loggers.wandb.uploader RUN`` runs beside the trainer. Which rows W&B already has is asked, not
remembered: online the server's summary of the resumed run tells, offline the segments on disk. So a row is
never logged twice and none is left out, however the trainer, this process or wandb's service ended. It may
take any time: nobody waits for it until the end.
"""

import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_UPLOADER_LOST
from dist_train.loggers.wandb.connect import STEP, already_logged, connect
from dist_train.loggers.wandb.files import how_to_sync, only_uploader_of, quiet_logging, say, session_path
from dist_train.loggers.wandb.report import log_best_file, log_predictions
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import Row, RowFollower
from dist_train.run.result import read_result
from dist_train.system.files import read_json

POLL_S = 1.0
ORPHAN_FINISH_S = 20.0
LOCK_S = 60.0


def main(argv: list[str]) -> int:
    """Returns 0 when there is nothing left to do here, 3 to be started again."""
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)  # some SLURM set-ups signal every process; the trainer says when to end
    os.nice(5)
    quiet_logging()
    run = RunDir(Path(argv[0]))
    session = read_json(session_path(run))
    with only_uploader_of(run, wait_s=LOCK_S) as alone:  # the one of the last attempt may still be finishing
        if not alone or session is None:
            say(f"another process is uploading {run.path}" if session else f"{session_path(run)} is missing or damaged")
            return 0
        try:
            live = connect(run, session)
            if live is not None:
                upload(run, live, session["trainer_pid"])
        except Exception as error:  # noqa: BLE001 - whatever wandb raises when its service is gone
            say(f"lost wandb's service process ({type(error).__name__}: {error})")
            return EXIT_UPLOADER_LOST
    return 0


def upload(run: RunDir, live: Any, trainer_pid: int) -> None:
    """Log what is missing, follow the trainer to its end, finish."""
    rows = NewRows(run.metrics, already_logged(live, run))
    log_best(run, live)  # W&B keeps its own best values for one attempt only
    ending = follow(run, live, rows, trainer_pid)
    with at_most(ending["limit_s"], run):
        log_rows(run, live, rows)
        log_best(run, live)  # result.json is written after the row
        finish(run, live, ending["status"], ending["exit_code"])


def follow(run: RunDir, live: Any, rows: "NewRows", trainer_pid: int) -> dict[str, Any]:
    """Log rows as they come, until the trainer says how it ended, or is gone without a word."""
    died = {"status": "failed", "exit_code": EXIT_FAILED, "limit_s": ORPHAN_FINISH_S}
    while True:
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            line = sys.stdin.readline()
            return dict(json.loads(line)) if line.endswith("\n") else died
        if os.getppid() != trainer_pid:  # its forked loader workers may hold the pipe open
            return died
        log_rows(run, live, rows)


def log_rows(run: RunDir, live: Any, rows: "NewRows") -> None:
    """Log every row that is new, keys prefixed with their split."""
    validated = False
    for row in rows.take():
        split, step = row["split"], row["step"]
        values = {f"{split}/{key}": value for key, value in row.items() if key not in ("step", "epoch", "split")}
        live.log({STEP: step, "epoch": row.get("epoch"), f"{split}/step": step, **values})
        validated = validated or split == "val"
    if validated:
        log_best(run, live)


def log_best(run: RunDir, live: Any) -> None:
    """The best row so far, as the trainer chose it, into the summary: columns of W&B's run table."""
    best = read_result(run).get("best") or {}
    live.summary.update({f"best/{key}": value for key, value in best.items() if isinstance(value, int | float)})


def finish(run: RunDir, live: Any, status: str, exit_code: int) -> None:
    """Add what only a finished run has, and end the W&B run as preempted, failed or finished."""
    if status == "done":
        log_predictions(run, live)
        log_best_file(run, live)
    if status == "stopped":
        live.mark_preempting()
    live.finish(exit_code=exit_code)


@contextmanager
def at_most(seconds: float, run: RunDir) -> Iterator[None]:
    """End this process if the block takes longer: wandb's calls have no time limit that can be set late."""

    def give_up() -> None:
        say(f"not everything was uploaded within {seconds:.0f} s. {how_to_sync(run)}")
        os._exit(EXIT_INCOMPLETE)

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class NewRows:
    """The rows of ``metrics.jsonl`` that W&B does not have. The trainer may append meanwhile."""

    def __init__(self, path: Path, logged: dict[str, int]) -> None:
        self._rows = RowFollower(path)
        self._logged = dict(logged)

    def take(self) -> Iterator[Row]:
        """Yield what came since the last call. A row at or before the last logged step of its split is a repetition."""
        for row in self._rows.take():
            if row["step"] > self._logged.get(row["split"], -1):
                self._logged[row["split"]] = row["step"]
                yield row


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # wandb's own exit handler would wait for a server that hangs
