"""A process of its own that follows ``metrics.jsonl`` and logs its rows to one W&B run. Started by ``wandb_sink``.

``python -m dist_train.wandb_uploader RUN`` runs beside the trainer; with ``--sync`` it uploads what the server
lacks of a run that is over. Which rows W&B already has is asked, not remembered: online the server's summary
of the resumed run tells, offline the segments on disk. So a row is never logged twice and none is left out,
however the trainer, this process or wandb's service ended. It may use any time: nobody waits for it.
"""

import fcntl
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_FAILED, EXIT_STOPPED
from dist_train.files import read_json
from dist_train.run_dir import RunDir, read_result
from dist_train.wandb_connect import STEP, already_logged, connect, connect_online
from dist_train.wandb_report import log_best_file, log_predictions
from dist_train.wandb_sink import EXIT_INCOMPLETE, EXIT_LOST, how_to_sync, say, session_path

POLL_S = 1.0
ORPHAN_FINISH_S = 20.0
SYNC_FINISH_S = 300.0
LOCK_S = 60.0


def main(argv: list[str]) -> int:
    """Returns 0 when there is nothing left to do here, 3 to be started again, 4 when rows stayed behind."""
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)  # some SLURM set-ups signal every process; the trainer says when to end
    os.nice(5)
    run, sync = RunDir(Path(argv[0])), "--sync" in argv
    session = read_json(session_path(run))
    if session is None:
        say(f"{session_path(run)} is missing or damaged")
        return EXIT_INCOMPLETE if sync else 0
    with only_uploader_of(run, wait_s=0.0 if sync else LOCK_S) as alone:
        if not alone:
            say(f"another process is uploading {run.path}")
            return EXIT_INCOMPLETE if sync else 0
        live = connect_online(run, session) if sync else connect(run, session)
        if live is None:
            return EXIT_INCOMPLETE if sync else 0
        try:
            upload(run, session, live, sync)
            return 0
        except Exception as error:  # noqa: BLE001 - whatever wandb raises when its service is gone
            say(f"lost wandb's service process ({type(error).__name__}: {error})")
            return EXIT_LOST


def upload(run: RunDir, session: dict[str, Any], live: Any, sync: bool) -> None:
    """Log what is missing, follow the trainer to its end, finish."""
    rows = NewRows(run.metrics, already_logged(live, run))
    log_best(run, live)  # a summary of an earlier attempt does not survive a resume
    if sync:
        ending = _ending_on_disk(run)
    else:
        ending = follow(run, live, rows, session["trainer_pid"])
    with at_most(ending["limit_s"], run):
        log_rows(run, live, rows)
        if ending["status"] == "done":
            log_predictions(run, live)
            log_best_file(run, live)
        if ending["status"] == "stopped":
            live.mark_preempting()
        live.finish(exit_code=ending["exit_code"])


def follow(run: RunDir, live: Any, rows: "NewRows", trainer_pid: int) -> dict[str, Any]:
    """Log rows as they come, until the trainer says how it ended, or is gone without a word."""
    while True:
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            line = sys.stdin.readline()
            return dict(json.loads(line)) if line.endswith("\n") else _died()
        if os.getppid() != trainer_pid:  # its forked loader workers may hold the pipe open
            return _died()
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
    """The whole lines of ``metrics.jsonl`` that W&B has not got. The trainer may append meanwhile."""

    def __init__(self, path: Path, logged: dict[str, int]) -> None:
        self._path = path
        self._logged = logged
        self._offset = 0

    def take(self) -> Iterator[dict[str, Any]]:
        """What came since the last call. A row at or before the last step logged of its split is a repetition."""
        try:
            with open(self._path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0  # rewound to a checkpoint
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            row = _parse(line)
            if row and row["step"] > self._logged.get(row["split"], -1):
                self._logged[row["split"]] = row["step"]
                yield row


@contextmanager
def only_uploader_of(run: RunDir, wait_s: float) -> Iterator[bool]:
    """Hold the run's lock; False if another process has it for longer than ``wait_s``."""
    deadline = time.monotonic() + wait_s
    with open(run.path / "wandb" / "lock", "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(POLL_S)
            else:
                yield True
                return


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"step", "split"} <= row.keys() else None


def _died() -> dict[str, Any]:
    return {"status": "failed", "exit_code": EXIT_FAILED, "limit_s": ORPHAN_FINISH_S}


def _ending_on_disk(run: RunDir) -> dict[str, Any]:
    status = read_result(run).get("status", "failed")
    exit_code = {"done": 0, "stopped": EXIT_STOPPED}.get(status, EXIT_FAILED)
    return {"status": status, "exit_code": exit_code, "limit_s": SYNC_FINISH_S}


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # wandb's own exit handler would wait for a server that hangs
