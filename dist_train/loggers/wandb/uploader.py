"""The uploader: a separate process that follows ``metrics.jsonl`` and logs its rows to one W&B run.

``WandbLogger`` starts ``python -m dist_train.loggers.wandb.uploader RUN`` beside the trainer. We do not store which rows W&B
already has, but ask: online the server's summary of the run, offline the segments on disk. So every row is logged exactly
once, even if the trainer, this process or wandb's service was killed. The uploader may be slow: the trainer waits for it
only at the end.
"""

import os
import sys
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_UPLOADER_LOST
from dist_train.loggers.upload.following import NewRows, at_most, follow
from dist_train.loggers.wandb.connect import STEP, already_logged, connect
from dist_train.loggers.wandb.files import how_to_sync, only_uploader_of, quiet_logging, say, session_path
from dist_train.loggers.wandb.report import log_best_file, log_look, log_page, log_predictions
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from dist_train.system.files import read_json
from dist_train.system.signals import ignore_stop_signals

LOCK_S = 60.0


def main(argv: list[str]) -> int:
    """Return 0 if the upload has ended, 3 if this process must be restarted."""
    ignore_stop_signals()  # some clusters signal every process; the trainer tells us when to end
    os.nice(5)
    quiet_logging()
    run = RunDir(Path(argv[0]))
    session = read_json(session_path(run))
    with only_uploader_of(run, wait_s=LOCK_S) as alone:  # the uploader of the last attempt may still run
        if not alone or session is None:
            say(f"another process is uploading {run.path}" if session else f"{session_path(run)} is missing or damaged")
            return 0
        try:
            live = connect(run, session)
            if live is not None:
                upload(run, live, session["trainer_pid"])
        except Exception as error:  # noqa: BLE001 - wandb raises many types when its service has died
            say(f"lost wandb's service process ({type(error).__name__}: {error})")
            return EXIT_UPLOADER_LOST
    return 0


def upload(run: RunDir, live: Any, trainer_pid: int) -> None:
    """Log missing rows, follow the trainer until it ends, finish the W&B run."""
    rows = NewRows(run.metrics, already_logged(live, run))
    log_best(run, live)  # W&B's own best values cover one attempt only
    log_look(run, live)
    ending = follow(lambda: log_rows(run, live, rows), trainer_pid)
    with at_most(ending["limit_s"], say, how_to_sync(run)):
        log_rows(run, live, rows)
        log_best(run, live)  # result.json is written after the row
        finish(run, live, ending["status"], ending["exit_code"])


def log_rows(run: RunDir, live: Any, rows: NewRows) -> None:
    """Log every new row; the split is the prefix of its keys."""
    validated = False
    for row in rows.take():
        split, step = row["split"], row["step"]
        values = {f"{split}/{key}": value for key, value in row.items() if key not in ("step", "epoch", "split")}
        live.log({STEP: step, "epoch": row.get("epoch"), f"{split}/step": step, **values})
        validated = validated or split == "val"
    if validated:
        log_best(run, live)


def log_best(run: RunDir, live: Any) -> None:
    """Write the best row so far into the summary, whose values are columns of W&B's run table."""
    best = read_result(run).get("best") or {}
    live.summary.update({f"best/{key}": value for key, value in best.items() if isinstance(value, int | float)})


def finish(run: RunDir, live: Any, status: str, exit_code: int) -> None:
    """Add tables, page and weights if the run is done, and end the W&B run as preempted, failed or finished."""
    if status == "done":
        log_predictions(run, live)
        log_page(run, live)
        log_best_file(run, live)
    if status == "stopped":
        live.mark_preempting()
    live.finish(exit_code=exit_code)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # wandb's exit handler would wait for a server that hangs
