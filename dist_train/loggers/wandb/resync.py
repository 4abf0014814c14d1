"""Upload what the W&B server lacks of a run that has ended. Started by ``launch/wandb_sync.py``, one process per run.

1. Upload offline segments by ``wandb sync``, because they also have machine statistics and the real times. Its exit code is
   not reliable, so ask the server after each segment which rows it has.
2. Log the rows that are still missing from ``metrics.jsonl``.
3. Ask the server again. To run this twice changes nothing.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_INCOMPLETE, exit_code_of
from dist_train.loggers.upload.following import NewRows, at_most
from dist_train.loggers.wandb.connect import already_logged, connect_online, on_server, why_not_online
from dist_train.loggers.wandb.files import (
    history,
    how_to_sync,
    only_uploader_of,
    planted_settings,
    quiet_logging,
    read_session,
    say,
    segments_of,
    session_path,
)
from dist_train.loggers.wandb.uploader import finish, log_best, log_rows
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result

SEGMENT_S = 300.0
REST_S = 300.0


def main(argv: list[str]) -> int:
    """Return 0 if the server has every row, else 4."""
    quiet_logging()
    run = RunDir(Path(argv[0]))
    session = read_session(run)
    with only_uploader_of(run, wait_s=0.0) as alone:
        if not alone:
            say(f"{run.path}: live, skipped")
            return EXIT_INCOMPLETE
        reason = why_not_online() if session.get("id") else f"{session_path(run)} is damaged"
        if planted := planted_settings(run):
            reason = f"{planted} would choose the server that gets your API key; remove it, or keep the run offline"
        if reason:
            say(f"{run.path}: not uploaded, because {reason}")
            return EXIT_INCOMPLETE
        try:
            return resync(run, session)
        except Exception as error:  # noqa: BLE001 - wandb raises many types when a server or its service has died
            say(f"{run.path}: INCOMPLETE: {type(error).__name__}: {' '.join(str(error).split())[:300]}; run this again")
            return EXIT_INCOMPLETE


def resync(run: RunDir, session: dict[str, Any]) -> int:
    """Upload the missing rows, and check that the server has all of them."""
    rows = list(NewRows(run.metrics, {}).take())
    wanted = {row["split"]: row["step"] for row in rows}

    def complete() -> bool:
        steps, count = on_server(session)
        return steps == wanted and count >= len(rows)

    if complete():
        say(f"{run.path}: complete already, last steps {wanted}")
        return 0
    for segment in segments_of(run.path / "wandb", session["id"]):
        if segment.parent.name.startswith("offline-"):
            upload_segment(run, segment, session)
    if not complete():
        log_the_rest(run, session)
    if complete():
        say(f"{run.path}: complete, last steps {wanted}")
        return 0
    steps, count = on_server(session)
    say(
        f"{run.path}: INCOMPLETE: the server has {count} rows, last steps {steps or 'none'}; the run has {len(rows)}, "
        f"last steps {wanted}"
    )
    return EXIT_INCOMPLETE


def upload_segment(run: RunDir, segment: Path, session: dict[str, Any]) -> None:
    """Upload one offline segment by ``wandb sync``, if it begins exactly where the server's history ends."""
    missing = next(NewRows(run.metrics, on_server(session)[0]).take(), None)
    first = next(iter(history(segment)), None)
    if missing is None or first is None or first.get(f"{missing['split']}/step") != missing["step"]:
        return
    target = ["--project", session["project"]] + (["--entity", session["entity"]] if session["entity"] else [])
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-synced", *target, str(segment.parent)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SEGMENT_S)
    except subprocess.TimeoutExpired:
        say(f"{segment.parent}: `wandb sync` was stopped after {SEGMENT_S:.0f} s")
        return
    if done.returncode != 0:
        say(f"{segment.parent}: `wandb sync` failed: {' '.join((done.stdout + done.stderr).split())[-300:]}")


def log_the_rest(run: RunDir, session: dict[str, Any]) -> None:
    """Resume the W&B run, log the rows that it lacks, and end it with the status of the training."""
    with at_most(REST_S, say, how_to_sync(run)):
        live = connect_online(run, session)
        if live is None:
            return
        log_best(run, live)
        log_rows(run, live, NewRows(run.metrics, already_logged(live, run)))
        status = read_result(run).get("status", "failed")
        finish(run, live, status, exit_code_of(status))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # wandb's exit handler would wait for a server that hangs
