"""Train a sweep with halving: one array for each rung, which begins when the one before it has ended; or on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dist_train.errors import ConfigError
from launch.installation import command
from launch.jobs.code_copy import Snapshot, take_snapshot, withdrawn_if_refused
from launch.jobs.halving import Bracket, Seat, jobs_of, load, make_bracket, save
from launch.jobs.job import Job, Task, array_size
from launch.runs.starts import record_submission
from launch.scheduler import scontrol

if TYPE_CHECKING:
    from launch.submit import Submitted


def bracket_of(job: Job) -> Bracket:
    """Return the bracket of a job before there is a copy of its configs.

    Raises:
        ConfigError: the runs cannot be compared, or are too many for one array.
    """
    assert job.options.halving is not None
    _, arrays = array_size(job)
    if arrays > 1:
        raise ConfigError(f"--halving needs one array: {len(job.runs)} runs are more than the cluster's MaxArraySize")
    return make_bracket(job.options.halving, [(job.config, run.overrides) for run in job.runs])


def seats_of(job: Job, snapshot: Snapshot, bracket: Bracket, rung: int) -> list[Seat]:
    """Return the seats of a rung."""
    options = snapshot.tasks[0].options
    return [Seat(str(file_of(job)), rung, place, options) for place in range(bracket.seats(rung))]


def file_of(job: Job) -> Path:
    """Return the file of the job's bracket."""
    return job.home.absolute() / "halving.json"


def check_not_queued(job: Job) -> None:
    """Check that no earlier submission of this sweep is in the queue.

    Raises:
        ConfigError: one is.
    """
    for job_id in jobs_of(file_of(job)):
        found = scontrol.show_job(job_id)
        if found.state == scontrol.UNKNOWN:
            return
        if not found.over:
            raise ConfigError(f"job {job_id} of this sweep is {found.state}; cancel it (scancel), or wait for it")


def submit_bracket(job: Job, snapshot: Snapshot, submit: "Callable[..., list[Submitted]]") -> int:
    """Submit one array for each rung that is not complete. Return the exit code.

    Args:
        submit: ``launch.submit.submit``.

    Raises:
        ConfigError: SLURM refuses an array.
    """
    check_not_queued(job)
    with withdrawn_if_refused([job.home, *(run.folder.path / "slurm" for run in job.runs)]):
        bracket = _write(job, snapshot)
        rung = _first(bracket)
        if rung is None:
            print(f"nothing to submit: {winner(bracket)}")
            return 0
        arrays = [submit(job, snapshot, seats_of(job, snapshot, bracket, rung))]
    if rung == 0:
        for run, entry in zip(job.runs, arrays[0], strict=True):
            record_submission(run.folder, entry.job_id, logs=entry.logs, code=str(snapshot.code), nodes=job.nodes)
    try:
        for later in range(rung + 1, len(bracket.rungs) + 1):
            after = dict.fromkeys(entry.job_id.partition("_")[0] for entry in arrays[-1])
            arrays.append(submit(job, snapshot, seats_of(job, snapshot, bracket, later), list(after)))
    finally:
        submitted = [entry for array in arrays for entry in array]
        save(bracket, file_of(job), [entry.job_id for entry in submitted])
    jobs = dict.fromkeys(entry.job_id.partition("_")[0] for entry in submitted)
    print(f"jobs {', '.join(jobs)}: one array for each rung; each begins when the one before it has ended")
    print(
        f"status: {command('slurm')} status {job.runs[0].folder.path.parent}\ncancel: scancel {' '.join(jobs)}",
        flush=True,
    )
    return 0


def tasks_here(job: Job, snapshot: Snapshot) -> Iterator[Task]:
    """Yield what to train on this machine, one after the other; which runs go on is known when their rung is complete."""
    bracket = _write(job, snapshot)
    for rung in range(len(bracket.rungs) + 1):
        for seat in seats_of(job, snapshot, bracket, rung):
            number = bracket.runs(rung)[seat.place]
            if not bracket.reached(number, rung):
                yield seat.task()
    print(winner(bracket), flush=True)


def winner(bracket: Bracket) -> str:
    """Return which runs went on to the end, in one line."""
    end = len(bracket.rungs)
    last = bracket.runs(end)
    names = ", ".join(bracket.config(number).run.name for number in last)
    did = "went to the end" if all(bracket.reached(number, end) for number in last) else "did not come to the end"
    return (
        f"halving: {names} {did}; {len(bracket.configs) - len(last)} paused run(s) can go on (train.pause_epoch=null)"
    )


def _write(job: Job, snapshot: Snapshot) -> Bracket:
    take_snapshot(snapshot, job)
    planned = bracket_of(job)
    configs = [(task.config, task.overrides) for task in snapshot.tasks]
    save(Bracket(configs, planned.rungs, planned.factor), file_of(job), jobs_of(file_of(job)))
    return load(file_of(job))


def _first(bracket: Bracket) -> int | None:
    """Return the first rung that is not complete; None if all are."""
    return next((rung for rung in range(len(bracket.rungs) + 1) if not bracket.complete(rung)), None)
