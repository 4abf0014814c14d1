"""Upload what W&B's server lacks of a run that is over. Started by ``launch/wandb_sync.py``, one process a run.

Offline segments go first, by wandb's own ``wandb sync``, since they hold machine statistics and the real times
too. Its exit code says little, so the server is asked after each what it has; whatever is still missing is
logged from ``metrics.jsonl``, and the server is asked once more. Running it twice changes nothing.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from dist_train.files import read_json
from dist_train.run_dir import RunDir, read_result
from dist_train.wandb_connect import already_logged, connect_online, server_steps, why_not_online
from dist_train.wandb_files import history, logged_steps, only_uploader_of, say, segments_of, session_path
from dist_train.wandb_sink import EXIT_INCOMPLETE
from dist_train.wandb_uploader import NewRows, at_most, finish, log_best, log_rows

SEGMENT_S = 300.0
REST_S = 300.0


def main(argv: list[str]) -> int:
    """Returns 0 if the server has every row, 4 if not."""
    run = RunDir(Path(argv[0]))
    session = read_json(session_path(run), default={})
    with only_uploader_of(run, wait_s=0.0) as alone:
        if not alone:
            say(f"{run.path}: live, skipped")
            return EXIT_INCOMPLETE
        reason = why_not_online()
        if reason:
            say(f"{run.path}: not uploaded, because {reason}")
            return EXIT_INCOMPLETE
        return resync(run, session)


def resync(run: RunDir, session: dict[str, Any]) -> int:
    """Bring the server up to date, and see that it is."""
    wanted = steps_on_disk(run)
    if server_steps(session) == wanted:
        say(f"{run.path}: complete already, last steps {wanted}")
        return 0
    for segment in segments_of(run.path / "wandb", session["id"]):
        if segment.parent.name.startswith("offline-"):
            upload_segment(segment, session)
    if server_steps(session) != wanted:
        log_the_rest(run, session)
    got = server_steps(session)
    if got == wanted:
        say(f"{run.path}: complete, last steps {wanted}")
        return 0
    say(f"{run.path}: INCOMPLETE, the server's last steps are {got or 'none'}, here {wanted}; run this again")
    return EXIT_INCOMPLETE


def steps_on_disk(run: RunDir) -> dict[str, int]:
    """The last step of each split in ``metrics.jsonl``."""
    steps: dict[str, int] = {}
    for row in NewRows(run.metrics, {}).take():
        steps[row["split"]] = row["step"]
    return steps


def upload_segment(segment: Path, session: dict[str, Any]) -> None:
    """``wandb sync`` for one offline segment, unless it is empty or the server is past its first row already."""
    first = {split: step for row in reversed(history(segment)) for split, step in logged_steps([row]).items()}
    there = server_steps(session)
    if not first or any(step <= there.get(split, -1) for split, step in first.items()):
        return
    target = ["--project", session["project"]] + (["--entity", session["entity"]] if session["entity"] else [])
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *target, str(segment.parent)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SEGMENT_S)
    except subprocess.TimeoutExpired:
        say(f"{segment.parent}: `wandb sync` was stopped after {SEGMENT_S:.0f} s")
        return
    if done.returncode != 0:
        say(f"{segment.parent}: `wandb sync` failed: {' '.join((done.stdout + done.stderr).split())[-300:]}")


def log_the_rest(run: RunDir, session: dict[str, Any]) -> None:
    """Resume the W&B run, log the rows that it lacks, and end it as the training ended."""
    with at_most(REST_S, run):
        live = connect_online(run, session)
        if live is None:
            return
        log_best(run, live)
        log_rows(run, live, NewRows(run.metrics, already_logged(live, run)))
        status = read_result(run).get("status", "failed")
        finish(run, live, status, {"done": EXIT_DONE, "stopped": EXIT_STOPPED}.get(status, EXIT_FAILED))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # wandb's own exit handler would wait for a server that hangs
