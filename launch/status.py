"""A table of all runs in a folder, and the live log of one run."""

import argparse
import glob
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, exit_code_of
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import live_step
from dist_train.run.result import read_result
from dist_train.system.foreign_text import printable
from launch import scontrol
from launch.installation import command
from launch.run_reader import standing
from launch.starts import read_starts, read_submissions

_COLUMNS = ("run", "state", "step", "best", "requeues", "eta", "note")


def main(argv: Sequence[str]) -> int:
    """Print the table of a folder. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"{command('slurm')} status",
        description="List the runs in a folder: state, step, best metric, remaining time.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="folder of the runs (runs)")
    print(table(parser.parse_args(argv).folder), flush=True)
    return EXIT_DONE


def table(folder: Path) -> str:
    """Return a table of the runs in ``folder``, which may itself be a run folder."""
    paths = sorted(
        path.parent for name in ("config.yaml", "launch.json") for path in folder.glob(f"**/{name}") if _is_run(path)
    )
    found = [_COLUMNS, *(_row_or_damage(RunDir(path), folder) for path in dict.fromkeys(paths))]
    rows = [tuple(printable(cell) for cell in row) for row in found]
    if len(rows) == 1:
        return f"no runs in {folder}"
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def follow(run: RunDir, job_id: str, logs: str) -> int:
    """Print the log of a job and every change of its state, through all requeues, until the job has ended.

    Returns:
        The exit code of the run: 0 done, 75 stopped, 1 anything else.
    """
    try:
        job = _follow_to_end(job_id, logs)
    except KeyboardInterrupt:
        print(f"\n[job {job_id}] is still in SLURM; to stop it: scancel {job_id}")
        return EXIT_STOPPED
    status = read_result(run).get("status")
    print(f"[job {job_id}] run folder {run.path}: {status or 'no result'}", flush=True)
    if job.state not in ("COMPLETED", "CANCELLED", "UNKNOWN"):
        return EXIT_FAILED  # a job that failed before it began leaves the result of the one before it
    return exit_code_of(str(status))


def _follow_to_end(job_id: str, logs: str) -> scontrol.Job:
    offsets: dict[str, int] = {}
    state = ""
    while True:
        job = scontrol.show_job_surely(job_id)
        _print_news(logs, offsets)
        now = f"{job.state}{f' on {job.nodes}' if job.state == 'RUNNING' else ''}, {job.restarts} requeue(s)"
        if now != state:
            state = now
            print(f"[job {job_id}] {now}", flush=True)
        if job.over or job.state == "UNKNOWN":
            break
        time.sleep(2)
    _print_news(logs, offsets)
    return job


def _print_news(logs: str, offsets: dict[str, int]) -> None:
    """Print the new lines of the log files, with the node in front if there are several."""
    paths = sorted(glob.glob(logs))
    for path in paths:
        with open(path, "rb") as file:
            file.seek(offsets.get(path, 0))
            news = file.read()
        whole = news[: news.rfind(b"\n") + 1]
        offsets[path] = offsets.get(path, 0) + len(whole)
        node = Path(path).name.split("_")[-2]
        for line in whole.decode(errors="replace").splitlines():
            print(f"{node}: {line}" if len(paths) > 1 else line)
    sys.stdout.flush()


def _is_run(path: Path) -> bool:
    return path.name == "launch.json" or (path.parent / "provenance.json").exists()


def _row_or_damage(run: RunDir, folder: Path) -> tuple[str, ...]:
    """Return one line of the table, also for a run whose files have unexpected content."""
    try:
        return _row(run, folder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, OSError, RecursionError) as error:
        return (_name(run, folder), "damaged", "", "", "", "", f"{type(error).__name__}: {error}"[:80])


def _name(run: RunDir, folder: Path) -> str:
    return str(run.path.relative_to(folder)) if run.path != folder else run.path.name


def _row(run: RunDir, folder: Path) -> tuple[str, ...]:
    result, submissions, starts = read_result(run), read_submissions(run), read_starts(run)
    if run.result.exists() and not result:
        raise ValueError("result.json cannot be read")
    job_id = submissions[-1]["job"] if submissions else None
    job = scontrol.show_job(job_id) if job_id else scontrol.Job()
    state = str(result.get("status", ""))
    if job.state in ("PENDING", "CONFIGURING", "SUSPENDED") or (
        not job.over and job.state not in ("UNKNOWN", "RUNNING")
    ):
        state = f"{job.state.lower()} ({job.reason})" if job.state == "PENDING" else job.state.lower()
    elif job.over and state in ("running", ""):
        state = f"lost ({job.state})"
    elif job.state == "UNKNOWN" and state == "running":
        state = standing(run, result)
    step, total = live_step(run), result.get("total_steps", 0)
    note = result.get("message") or (starts[-1].get("why") if starts else None) or ""
    requeues = job.restarts if job.state != "UNKNOWN" else max((start["restart"] for start in starts), default=0)
    return (
        *(
            _name(run, folder),
            state or ("unknown" if job.state == "UNKNOWN" else "queued"),
            f"{step}/{total}" if total else str(step),
            _best(result),
        ),
        *(
            str(requeues),
            _eta(run, total) if state == "running" else "",
            note.splitlines()[0][:80] if note.strip() else "",
        ),
    )


def _best(result: dict[str, Any]) -> str:
    best = result.get("best") or {}
    name = next((key for key in ("top1", "map", "rmse", "loss") if best.get(key) is not None), None)
    return f"{name} {best[name]:.4g} @ {best.get('step', 0):.0f}" if name else ""


def _eta(run: RunDir, total: int) -> str:
    """Return the remaining time at the speed of this start."""
    starts = read_starts(run)
    done = live_step(run) - int(starts[-1]["step"]) if starts else 0
    if done <= 0 or not total:
        return ""
    elapsed = time.time() - datetime.strptime(starts[-1]["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    seconds = int(elapsed / done * (total - live_step(run)))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
