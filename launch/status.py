"""A table of all runs in a folder, and the live log of one run."""

import glob
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ConfigError, exit_code_of
from dist_train.run.folder import RunDir, fault_of_folder
from dist_train.run.metrics_file import live_step
from dist_train.run.result import read_result
from dist_train.system.foreign_text import printable
from dist_train.system.program import Parser
from dist_train.system.terminal import given_path, report
from launch.installation import command
from launch.runs.reader import standing
from launch.runs.starts import read_starts, read_submissions, wrote_result
from launch.scheduler import scontrol

_COLUMNS = ("run", "state", "step", "best", "requeues", "eta", "note")
_LOOKS = 2  # a job that is being requeued shows a final state for a moment
_HELD = {
    "PartitionTimeLimit": "--time is above the partition's limit: scancel {job}, and submit with less",
    "PartitionNodeLimit": "--nodes is above the partition's limit: scancel {job}, and submit with fewer",
    "*WallDurationPerJobLimit": "--time is above the limit of the account or QOS: scancel {job}, and submit with less",
    "*PerJob*": "it asks for more than the account or QOS allows one job: scancel {job}, and submit with less",
    "*Max*PerNode": "it asks for more of a node than the account or QOS allows: scancel {job}, and submit with less",
    "QOSMin*": "it asks for less than the QOS demands: scancel {job}, and submit with more",
    "BadConstraints": "no node has what it asks for: scancel {job}, and submit with less",
    "Invalid*": "its account or QOS is not valid: scancel {job}, and submit with another --account or --qos",
    "*NotAllowed": "the partition does not take its account or QOS: scancel {job}, and submit with another one",
    "DependencyNeverSatisfied": "the job that it waits for has failed: scancel {job}, and submit again",
    "ReservationDeleted": "its reservation has been deleted: scancel {job}, and submit without --reservation",
    "JobHeldUser": "it is held: scontrol release {job}",
    "JobHeldAdmin": "an administrator holds it",
    "job_requeued_in_held_state": "it is held: scontrol release {job}",
    "JobHoldMaxRequeue": "SLURM has requeued it too often, and holds it: scontrol release {job}",
    "launch_failure_limit_exceeded_requeued_held": "SLURM could not start it, and holds it: scontrol release {job}",
}
"""Reasons (patterns) for which a job waits without an end, and what to do."""


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Print the table of a folder. Return the exit code.

    Args:
        prog: how the user called the command, if not as ``status``.
    """
    parser = Parser(
        prog=prog or command("status"),
        description="List the runs in a folder: state, step, best metric, remaining time.",
    )
    parser.add_argument("folder", nargs="?", metavar="FOLDER", type=given_path, help="folder of the runs (runs)")
    given = parser.parse_args(argv).folder
    if given and (fault := fault_of_folder(given)):
        return report(ConfigError(f"{given} is not a folder of runs: {fault}"))
    print(table(given or Path("runs")), flush=True)
    return EXIT_DONE


def table(folder: Path) -> str:
    """Return a table of the runs in ``folder``, which may itself be a run folder."""
    paths = sorted(
        path.parent for name in ("config.yaml", "launch.json") for path in folder.glob(f"**/{name}") if _is_run(path)
    )
    hidden = [f"cannot be read, and may hold runs: {printable(str(path))}" for path in _closed(folder)]
    slurm = _Slurm()
    found = [_COLUMNS, *(_row_or_damage(RunDir(path), folder, slurm) for path in dict.fromkeys(paths))]
    rows = [tuple(printable(cell) for cell in row) for row in found]
    if len(rows) == 1:
        return "\n".join(hidden or [f"no runs in {folder}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [*lines, *hidden, *(["SLURM does not answer: states are those in the run folders"] * slurm.silent)]
    )


def _closed(folder: Path) -> list[Path]:
    """Return the folders, ``folder`` or those in it, that this user cannot look into: a pattern leaves them out without a word."""
    inside = sorted(folder.iterdir()) if _is_open(folder) else []
    return [path for path in (folder, *inside) if os.path.isdir(path) and not _is_open(path)]


def _is_open(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


class _Slurm:
    """Ask SLURM about jobs, until it does not answer: each further question would wait for it as long."""

    silent = False

    def job(self, job_id: str | None) -> scontrol.Job:
        """Return the job; state UNKNOWN if there is none or SLURM does not answer."""
        if job_id is None or self.silent:
            return scontrol.Job()
        job = scontrol.show_job(job_id)
        self.silent = job.state == scontrol.UNKNOWN
        return job


def follow(run: RunDir, job_id: str, logs: str) -> int:
    """Print the log of a job and every change of its state, through all requeues, until the job has ended.

    Returns:
        The exit code of the run: 0 done, 75 stopped, 1 anything else.
    """
    try:
        job = _follow_to_end(run, job_id, logs)
    except KeyboardInterrupt:
        print(f"\n[job {job_id}] is still in SLURM; to stop it: scancel {job_id}")
        return EXIT_STOPPED
    print(f"[job {job_id}] run folder {run.path}: {read_result(run).get('status') or 'no result'}", flush=True)
    return _exit_code(run, job_id, job)


def _exit_code(run: RunDir, job_id: str, job: scontrol.Job) -> int:
    """Return the exit code by the run folder: SLURM calls a run that is done PREEMPTED if it was preempted before."""
    if not wrote_result(
        run, job_id
    ):  # a job that ended before its workers began leaves the result of the one before it
        return EXIT_STOPPED if job.state == "CANCELLED" else EXIT_FAILED
    failed = read_starts(run)[-1].get("verdict") == "fail"
    return EXIT_FAILED if failed else exit_code_of(str(read_result(run).get("status")))


def _follow_to_end(run: RunDir, job_id: str, logs: str) -> scontrol.Job:
    offsets: dict[str, int] = {}
    state, looks_over = "", 0
    while True:
        job = scontrol.show_job_surely(job_id)
        _print_news(logs, offsets)
        where = f" on {job.nodes}" if job.state == "RUNNING" else job.why_waiting
        now = f"{job.state}{where}, {job.restarts} requeue(s)"
        if now != state:
            state = now
            print(f"[job {job_id}] {now}{_advice(job, job_id)}", flush=True)
        looks_over = looks_over + 1 if job.over else 0
        if looks_over == _LOOKS or job.state == scontrol.UNKNOWN or _starts_for_nothing(run, job_id, job):
            break
        time.sleep(1 if looks_over else 2)
    _print_news(logs, offsets)
    return job


def _starts_for_nothing(run: RunDir, job_id: str, job: scontrol.Job) -> bool:
    """Return whether the run is done and SLURM has queued its job once more: that start will leave at once."""
    done = job.waiting and job.restarts and _is_done(run, job_id)
    if done:
        print(f"[job {job_id}] the run is done; SLURM starts its job once more, which then leaves at once", flush=True)
    return bool(done)


def _is_done(run: RunDir, job_id: str | None) -> bool:
    return read_result(run).get("status") == "done" and job_id is not None and wrote_result(run, job_id)


def _advice(job: scontrol.Job, job_id: str) -> str:
    """Return what to do about a job that does not start by itself."""
    reason = job.reason if job.waiting else ""
    advice = next((advice for pattern, advice in _HELD.items() if fnmatchcase(reason, pattern)), None)
    return f"; it will not start by itself: {advice.format(job=job_id)}" if advice else ""


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
    return path.name == "launch.json" or os.path.exists(path.parent / "provenance.json")


def _row_or_damage(run: RunDir, folder: Path, slurm: _Slurm) -> tuple[str, ...]:
    """Return one line of the table, also for a run whose files have unexpected content."""
    try:
        return _row(run, folder, slurm)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, OSError, RecursionError) as error:
        return (_name(run, folder), "damaged", "", "", "", "", f"{type(error).__name__}: {error}"[:80])


def _name(run: RunDir, folder: Path) -> str:
    return str(run.path.relative_to(folder)) if run.path != folder else run.path.name


def _row(run: RunDir, folder: Path, slurm: _Slurm) -> tuple[str, ...]:
    result, submissions, starts = read_result(run), read_submissions(run), read_starts(run)
    if run.result.exists() and not result:
        raise ValueError("result.json cannot be read")
    job_id = submissions[-1]["job"] if submissions else None
    job = slurm.job(job_id)
    state = _state(run, job_id, job)
    step, total = live_step(run), result.get("total_steps", 0)
    note = result.get("message") or (starts[-1].get("why") if starts else None) or ""
    known = job.state not in (scontrol.UNKNOWN, scontrol.FORGOTTEN)
    requeues = job.restarts if known else max((start["restart"] for start in starts), default=0)
    return (
        *(_name(run, folder), state, f"{step}/{total}" if total else str(step), _best(result)),
        *(
            str(requeues),
            _eta(run, total, job) if state == "running" else "",
            note.splitlines()[0][:80] if note.strip() else "",
        ),
    )


def _state(run: RunDir, job_id: str | None, job: scontrol.Job) -> str:
    """Return the state of a run: by its job while that is live, else by its folder."""
    result = read_result(run)
    status = str(result.get("status", ""))
    if _is_done(run, job_id):
        return "done"  # whatever SLURM calls the job, or if SLURM starts it once more
    if job.state in (scontrol.UNKNOWN, scontrol.FORGOTTEN):
        return standing(run, result) if status else "unknown"
    if not job.over:
        return (status or "queued") if job.state == "RUNNING" else job.state.lower() + job.why_waiting
    if status not in ("running", ""):
        return status
    began = job_id is not None and any(start["job"] == job_id for start in read_starts(run))
    return f"lost ({job.state})" if began else f"{job.state.lower()} before it began"


def _best(result: dict[str, Any]) -> str:
    best = result.get("best") or {}
    name = next((key for key in ("top1", "map", "rmse", "loss") if best.get(key) is not None), None)
    return f"{name} {best[name]:.4g} @ {best.get('step', 0):.0f}" if name else ""


def _eta(run: RunDir, total: int, job: scontrol.Job) -> str:
    """Return the remaining time at the speed of this start; a time in which SLURM suspended it does not count."""
    starts = read_starts(run)
    done = live_step(run) - int(starts[-1]["step"]) if starts else 0
    if done <= 0 or not total:
        return ""
    since_start = time.time() - datetime.strptime(starts[-1]["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    elapsed = since_start if job.ran_s is None else min(since_start, job.ran_s)
    seconds = int(elapsed / done * (total - live_step(run)))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
