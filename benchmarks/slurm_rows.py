"""What is measured of a run in the fault table, and the table as text. ``slurm_faults.py`` says what happens to the runs."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dist_train.run.folder import RunDir
from launch import status
from tests.slurm import lab
from tests.slurm.lab import Watched


@dataclass
class Row:
    """The result of one case."""

    slurm: str
    tracker: str
    nodes: str
    """Nodes x ranks of each."""
    case: str
    ok: bool
    job: str
    requeues: int
    attempts: int
    left_again: int
    """Starts that left at once, because the job had ended before."""
    steps_lost: int | None
    saved_after_s: float | None
    first_step_after_s: float | None
    final_state: str
    status: str
    follow: int
    """Exit code of ``--follow``."""
    weights: str
    date: str
    note: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return self.slurm, self.nodes, self.tracker, self.case


@dataclass(frozen=True)
class Expected:
    """How the job of a case must end."""

    state: str = "COMPLETED"
    status: str = "done"
    restarts: tuple[int, ...] = (1,)
    left_again: int = 0
    """Starts after the end of the run, which SLURM itself asks for."""
    lost: int = 0
    """Largest number of steps that may be trained again."""

    def met_by(self, row: Row) -> bool:
        """Return whether a row ended as it must."""
        follow = {"done": 0, "stopped": 75}.get(self.status, 1)
        return (
            (row.final_state, row.status, row.follow) == (self.state, self.status, follow)
            and row.left_again == self.left_again
            and row.requeues - row.left_again in self.restarts
            and (self.status != "done" or (row.steps_lost or 0) <= self.lost)
            and row.weights == ("equal" if self.status == "done" else "none")
        )


DONE = Expected()
"""After a signal: started once more, no step lost."""


def measure(job: Watched, began: float, weights: str, fixed: dict[str, str]) -> Row:
    """Return the row of a job that has ended; ``weights`` are those of an undisturbed run."""
    end, final = job.look(), lab.weights(job.run)
    row = Row(
        **fixed,
        ok=False,
        job=job.job_id,
        requeues=end.restarts,
        attempts=end.attempt,
        left_again=sum(start.get("repeated", False) for start in job.starts()),
        steps_lost=steps_lost(job),
        saved_after_s=saved_after(job, began),
        first_step_after_s=first_step_after(job, began),
        final_state=end.state,
        status=end.status,
        follow=-1,
        weights="none" if final is None else "equal" if final == weights else "DIFFERENT",
        date=f"{datetime.now():%Y-%m-%d %H:%M}",
    )
    if job.over(end):
        with open("/dev/null", "w") as nowhere, redirect_stdout(nowhere):
            row.follow = status.follow(RunDir(job.run), job.job_id, job.logs)
    return row


def steps_lost(job: Watched) -> int | None:
    """Return the largest number of steps that a resume trained again; None without a resume."""
    losses, since = [], 0.0
    for moment, step in ((clock(f"{when}.0"), step) for when, step in job.resumes()):
        reached = [seen.step for seen in job.seen if since <= seen.time < moment]
        losses.append(max(reached, default=step) - step)
        since = moment
    return max(losses, default=None)


def saved_after(job: Watched, began: float) -> float | None:
    """Return the seconds until the run had stopped and saved, from the first signal, or from the kill without a signal."""
    saved = next((seen.time for seen in job.seen if seen.status == "stopped"), None)
    if saved is None:
        return None
    told = [clock(text) for text in re.findall(r"\[supervisor (\S+) node \d+\] \w+: asking", job.log())]
    return round(saved - min([moment for moment in told if moment < saved], default=began), 1)


def first_step_after(job: Watched, began: float) -> float | None:
    """Return the seconds until a new step, from the second start of the supervisors, or from the kill without one."""
    started = re.search(r"\[supervisor (\S+) node 0\] start [\d_]+\.1,", job.log())
    again = [seen for seen in job.seen if seen.attempt > 1 and (seen.restarts > 0 or not started)]
    base = again[0].step if again else 0
    moved = next((seen.time for seen in again if seen.step > base), None)
    return round(moved - (clock(started[1]) if started else began), 1) if moved else None


def clock(text: str) -> float:
    """Return the Unix time of a time of today."""
    return datetime.combine(datetime.now().date(), datetime.strptime(text, "%H:%M:%S.%f").time()).timestamp()


def reference(folder: Path, images: Path, steps: int, ranks: int) -> str | None:
    """Return the digest of the final weights of an undisturbed run, trained once."""
    folder = folder / f"undisturbed-{steps}-{ranks}"
    if lab.weights(folder / "run") is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lab.run_with_torchrun(lab.make_config(folder, images, steps), procs=ranks)
    return lab.weights(folder / "run")


class Results:
    """``slurm_faults.json`` and ``.md``. Two clusters may write them at the same time."""

    def __init__(self, folder: Path, order: Sequence[str]) -> None:
        self.file, self.order = folder / "slurm_faults.json", list(order)

    def read(self) -> list[Row]:
        """Return all rows."""
        return [Row(**row) for row in json.loads(self.file.read_text())] if self.file.exists() else []

    def add(self, row: Row, head: str) -> None:
        """Add a row, or replace the row of the same case."""
        with self._locked():
            rows = [other for other in self.read() if other.key != row.key] + [row]
            rows.sort(key=self._place)
            self.file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            self.file.with_suffix(".md").write_text(head + table(rows))

    def _place(self, row: Row) -> tuple[str, bool, int, int]:
        """Return the position of a row in the table: first the rows on one and two nodes."""
        nodes = int(row.nodes.split()[0])
        return (
            row.slurm,
            row.tracker != "linuxproc",
            nodes if nodes > 2 else 0,
            self.order.index(row.case.partition(": the other")[0]),
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


COLUMNS = {
    "SLURM": lambda row: row.slurm,
    "nodes x ranks": lambda row: row.nodes,
    "tracker": lambda row: row.tracker,
    "case": lambda row: row.case,
    "requeues": lambda row: row.requeues,
    "left again": lambda row: row.left_again,
    "attempts": lambda row: row.attempts,
    "steps lost": lambda row: row.steps_lost,
    "signal -> saved, s": lambda row: row.saved_after_s,
    "restart -> first step, s": lambda row: row.first_step_after_s,
    "state": lambda row: row.final_state,
    "run": lambda row: row.status,
    "`--follow`": lambda row: row.follow,
    "weights": lambda row: row.weights,
    "date": lambda row: row.date,
    "": lambda row: "ok" if row.ok else f"NOT AS EXPECTED {row.note}",
}


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), *map(line, rows)]
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    cells = [cell(row) for cell in COLUMNS.values()]
    return "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |"
