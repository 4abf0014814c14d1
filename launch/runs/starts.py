"""The files that launchers write into a run folder: which jobs ran it, and how far each start came.

``launch.json`` lists the jobs that were submitted for the run. In ``starts.json`` the supervisor of node 0 records every
start before any worker runs. Progress means: this start reached a step that no earlier start of the job had reached. Thus
we notice a job that fails again and again at the same step.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import live_step
from dist_train.run.result import now, read_result
from dist_train.system.files import FULL, overwrite_json, read_json, write_json
from launch.scheduler.scontrol import KEEPS_GRACE


@dataclass(frozen=True)
class History:
    """The progress of the starts of one job, judged at the end of the last start."""

    progressed: bool
    """This start reached a step that no earlier one had reached."""
    progressed_before: bool
    """The start before it made progress; true for the first start of a job, which has none before it."""
    stopped_at: int | None
    """The step at which the start before it stopped and saved; None if it did not."""


def record_submission(run: RunDir, job_id: str, **details: Any) -> None:
    """Append a job to ``launch.json``."""
    write_json(run.path / "launch.json", [*read_submissions(run), {"job": job_id, "time": now(), **details}])


def read_submissions(run: RunDir) -> list[dict[str, Any]]:
    """Return the jobs that were submitted for a run, the oldest first."""
    return _entries(run.path / "launch.json", {"job": _is_job})


def record_start(run: RunDir, job_id: str, restart: int) -> None:
    """Append this start to ``starts.json``."""
    result = read_result(run)
    starts = read_starts(run)
    starts.append(
        {
            "job": job_id,
            "restart": restart,
            "time": now(),
            "step": live_step(run),
            "attempt": result.get("attempt", 0),
            "stopped_at": result.get("step", 0) if result.get("status") == "stopped" else None,
        }
    )
    write_json(run.path / "starts.json", starts)


def record_preemption(run: RunDir) -> None:
    """Note in the last start in ``starts.json`` that SLURM preempts it."""
    starts = read_starts(run)
    if starts:
        starts[-1]["preempted"] = True
        _rewrite(run, starts)


def record_end(run: RunDir, verdict: str, why: str, **details: bool | list[str]) -> None:
    """Add the end to the last start in ``starts.json``."""
    starts = read_starts(run)
    if starts:
        starts[-1] |= {"ended": now(), "reached": live_step(run), "verdict": verdict, "why": why, **details}
        _rewrite(run, starts)


def _rewrite(run: RunDir, starts: list[dict[str, Any]]) -> None:
    """Write what has become of a start. An error must keep no worker from saving, and no job from its requeue."""
    path = run.path / "starts.json"
    try:
        try:
            write_json(path, starts)
        except OSError as error:
            if error.errno not in FULL:
                raise
            overwrite_json(path, starts)  # there is mostly room in the block that it has
    except OSError as error:
        print(f"warning: cannot write {path} ({error.strerror}): how this start ended is not recorded", flush=True)


def ended_before(run: RunDir, job_id: str, restart: int, slurm: tuple[int, int]) -> dict[str, Any] | None:
    """Return the start that brought the run to its end, if it was an earlier one of this job; None otherwise.

    A job that has failed may be started once more by SLURM (``scontrol.KEEPS_GRACE``), or by a user who wants to try again:
    that is before 24.05, without a preemption, or after the failure was repeated once.
    """
    earlier = [start for start in read_starts(run) if start["job"] == job_id and start["restart"] < restart]
    if not earlier:
        return None
    last = earlier[-1]
    if wrote_result(run, job_id) and read_result(run).get("status") == "done":
        return {**last, "verdict": "done"}
    preempted = any(start.get("preempted") for start in earlier)
    by_slurm = slurm >= KEEPS_GRACE and preempted and not last.get("repeated")
    return last if by_slurm and last.get("verdict") == "fail" else None


def wrote_result(run: RunDir, job_id: str) -> bool:
    """Return whether ``result.json`` is of this job: it made the last start, and a new attempt since its first start."""
    starts = read_starts(run)
    if not starts or starts[-1]["job"] != job_id:
        return False
    attempts = [start.get("attempt") or 0 for start in starts if start["job"] == job_id]
    return bool(read_result(run).get("attempt", 0) > min(attempts))


def find_start(run: RunDir, job_id: str, restart: int) -> dict[str, Any] | None:
    """Return this start if it is the last one of the run; None otherwise."""
    start = next(iter(read_starts(run)[-1:]), {})
    return start if (start.get("job"), start.get("restart")) == (job_id, restart) else None


def read_starts(run: RunDir) -> list[dict[str, Any]]:
    """Return all starts of a run by supervisors, the oldest first."""
    return _entries(run.path / "starts.json", _START)


def _entries(path: Path, kinds: dict[str, Callable[[Any], bool]]) -> list[dict[str, Any]]:
    """Return the entries of a list whose fields have values of these kinds, without entries that a launcher cannot write."""
    entries = read_json(path, default=[])
    return [
        entry
        for entry in entries
        if isinstance(entry, dict) and all(is_right(entry.get(key)) for key, is_right in kinds.items())
    ]


def _is_job(value: Any) -> bool:
    """Return whether a value can be a job's name; ``scontrol`` would take one that begins with - for an option."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w.+-]*", value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


_START: dict[str, Callable[[Any], bool]] = {
    "job": _is_job,
    "restart": _is_count,
    "step": _is_count,
    "time": lambda value: isinstance(value, str),
    "stopped_at": lambda value: value is None or _is_count(value),
    "attempt": lambda value: value is None or _is_count(value),
    "verdict": _is_text,
    "why": _is_text,
}


def history(run: RunDir, job_id: str) -> History:
    """Return the history of a job, by the files in the run folder now; without starts that a lost node ended."""
    starts = [start for start in read_starts(run) if start["job"] == job_id and not start.get("outside")]
    steps = [int(start["step"]) for start in starts] or [0]
    return History(
        progressed=live_step(run) > max(steps),
        progressed_before=len(steps) < 2 or steps[-1] > max(steps[:-1]),
        stopped_at=starts[-1].get("stopped_at") if starts else None,
    )
