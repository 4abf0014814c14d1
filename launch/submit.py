"""Submit a checked job by sbatch, or return its script. Only this module uses submitit."""

import glob
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dist_train.errors import ConfigError
from launch.installation import pythonpath
from launch.jobs.code_copy import Snapshot
from launch.jobs.container import PASSED, env_names
from launch.jobs.halving import Seat
from launch.jobs.job import Job, array_size
from launch.jobs.job_options import LAST_RESORT, JobOptions, flags
from launch.jobs.options import last_line
from launch.scheduler import cluster, scontrol
from launch.supervise import supervise, supervise_seat

try:
    import submitit
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor
except ModuleNotFoundError as error:
    raise ConfigError(f"a SLURM job needs {error.name}: pip install {error.name}") from None


LIMITS = "CORE,STACK"
"""The limits of the shell (``ulimit``) that a job gets. Those of a login node for CPU time, memory and processes would kill it."""


class _AnywhereExecutor(SlurmExecutor):  # type: ignore[misc]  # submitit is untyped
    """An executor that also writes scripts on a machine without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 2


@dataclass(frozen=True)
class Submitted:
    """One run in the queue."""

    job_id: str
    logs: str
    """Glob pattern of its log files, one per node."""


def script(job: Job, snapshot: Snapshot, seats: list[Seat] | None = None) -> str:
    """Return the sbatch script, without submitting it."""
    executor = _AnywhereExecutor(job.home.absolute(), python=job.options.python)
    executor.update_parameters(**_parameters(job, snapshot, seats))
    if len(seats or job.runs) > 1:  # submitit makes no array of one run
        executor.parameters["map_count"] = len(seats or job.runs)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))


def arrays(job: Job, snapshot: Snapshot) -> list[tuple[Job, Snapshot]]:
    """Split a sweep into arrays that are not longer than the cluster allows. Together they keep ``--max-parallel``."""
    size, count = array_size(job)
    if count == 1:
        return [(job, snapshot)]
    options = replace(job.options, max_parallel=job.options.max_parallel // count)
    parts = [slice(start, start + size) for start in range(0, len(job.runs), size)]
    return [
        (replace(job, runs=job.runs[part], options=options), replace(snapshot, tasks=snapshot.tasks[part]))
        for part in parts
    ]


def submit(job: Job, snapshot: Snapshot, seats: list[Seat] | None = None, after: Sequence[str] = ()) -> list[Submitted]:
    """Submit one run as a job, or several as an array.

    Args:
        seats: what to train instead of the runs of the job.
        after: jobs that must have ended before this one begins.

    Raises:
        ConfigError: SLURM refuses the job.
    """
    executor = SlurmExecutor(job.home.absolute(), python=job.options.python)
    executor.update_parameters(**_parameters(job, snapshot, seats, after))
    with _outside_of_jobs():
        try:
            if job.sweep:
                with executor.batch(allow_implicit_submissions=False):
                    if seats is None:
                        jobs = [executor.submit(supervise, task) for task in snapshot.tasks]
                    else:
                        jobs = [executor.submit(supervise_seat, seat) for seat in seats]
            else:
                jobs = [executor.submit(supervise, snapshot.tasks[0])]
        except FailedJobError as error:
            raise ConfigError(f"sbatch refuses the job (--dry-run prints it): {complaint(str(error))}") from None
    folder = glob.escape(str(job.home.absolute()))
    return [Submitted(j.job_id, f"{folder}/{j.job_id}_*_log.out") for j in jobs]


def test_only(text: str) -> str:
    """Ask sbatch whether it would take a script, and when the job would start. Return its answer.

    Raises:
        ConfigError: sbatch refuses the script.
    """
    with _outside_of_jobs():
        done = scontrol.call("sbatch", "--test-only", patience_s=cluster.DRY_RUN_S, stdin=text)
    if done.returncode == scontrol.HANGS:
        return "no answer"
    if done.returncode:
        raise ConfigError(f"sbatch --test-only refuses the job: {complaint(done.stderr)}")
    return " ".join(line.removeprefix("sbatch: ") for line in done.stderr.splitlines())


def complaint(text: str) -> str:
    """Return what sbatch says about a refusal: often its first line has the reason, and the last one only the category."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line.startswith(("sbatch:", "allocation failure:"))]
    return "; ".join(said) or last_line(text)


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the SLURM_ variables of an allocation (CPU binding, number of tasks), which would change the job."""
    conf = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(conf)
        yield


def _parameters(
    job: Job, snapshot: Snapshot, seats: list[Seat] | None = None, after: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the parameters of submitit for the job."""
    options = job.options
    extra: dict[str, Any] = {"requeue": True, "chdir": str(Path.cwd()), "propagate": LIMITS}
    extra |= options.for_sbatch() | dict(options.sbatch)
    if after:
        extra["dependency"] = ":".join(["afterany", *after])
    parameters = {
        "job_name": job.name,
        "nodes": job.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": job.cpus,
        "time": -(-job.seconds // 60),
        "signal_delay_s": options.signal_delay,
        "stderr_to_stdout": True,
        "wckey": None,
        "array_parallelism": options.max_parallel,
        "additional_parameters": extra,
        # Since SLURM 22.05 srun does not inherit the CPUs of sbatch. Without --open-mode=append a requeue would truncate
        # the log. Without --export=ALL supervisors would not get what `_setup` exports if sbatch has --export=NONE.
        "srun_args": [
            *("--kill-on-bad-exit=1", "--open-mode=append", "--export=ALL", f"--cpus-per-task={job.cpus}"),
            *(f"--{key}" if value is True else f"--{key}={value}" for key, value in options.srun),
        ],
        "setup": _setup(options, snapshot),
        "teardown": _teardown(options, snapshot, seats),
    }
    _refuse_what_a_script_cannot_hold(job, snapshot, extra)
    return parameters | ({"gpus_per_node": str(options.gpus_per_node)} if job.gpus else {})


def _refuse_what_a_script_cannot_hold(job: Job, snapshot: Snapshot, extra: dict[str, Any]) -> None:
    """Raise ConfigError if a value would end its line of the script (the next line could be an option for sbatch), or change."""
    values = {f"--{key.replace('_', '-')}": value for key, value in extra.items() if key != "chdir"}
    values |= {"the current folder": Path.cwd(), "the name of the run": job.name, "the run folder": job.home}
    values |= {"--python": job.options.python, "the folder of the code": snapshot.code}
    for what, value in values.items():
        if str(value).splitlines() not in ([], [str(value)]) or "\0" in str(value):
            raise ConfigError(
                f"{what} ({str(value)!r}) contains a line break, which a script for sbatch cannot hold; remove it"
            )
    if set("%\\") & set(str(job.home.absolute())):
        raise ConfigError(
            f"the run folder {job.home.absolute().parent} has a '%' or a backslash in its path, which SLURM replaces in the names "
            "of logs; choose another run.output_dir"
        )
    for line in "\n".join(job.options.setup).splitlines():
        if line.lstrip().startswith("#SBATCH"):
            raise ConfigError(
                f"--setup ({line!r}) is for shell commands; give an option of sbatch as --sbatch KEY=VALUE"
            )


_TELL_FAILURE = """trap 'echo "warning: --setup: $BASH_COMMAND: exit status $?" >&2' ERR"""


_AFTER_SETUP = ("trap - ERR", "set +e", 'cd "$SLURM_SUBMIT_DIR" || exit 1')
"""With ``set -e`` the last lines of the script would not run, and relative paths of the config refer to the folder of the submission."""


def _setup(options: JobOptions, snapshot: Snapshot) -> list[str]:
    # Keep what `module load` has added to PYTHONPATH on the node.
    path = f"export PYTHONPATH={shlex.quote(pythonpath(snapshot.code))}${{PYTHONPATH:+:$PYTHONPATH}}"
    lines = [_TELL_FAILURE, *options.setup, *_AFTER_SETUP] if options.setup else []
    lines += [path, "export PYTHONSAFEPATH=1"]
    if options.env:
        names = ", ".join(key for key, _ in options.env)
        lines += [f"# --env: {names}", f"source {shlex.quote(str(snapshot.environment))} || exit 1"]
    if options.container:
        lines.append(f"export {PASSED}={env_names(options)}")
    return lines


def _teardown(options: JobOptions, snapshot: Snapshot, seats: list[Seat] | None) -> list[str]:
    """Return the last lines of the batch script, which requeue a job whose supervisors were killed."""
    configs = [shlex.join([f"--config={task.config}", *task.overrides]) for task in snapshot.tasks]
    if seats is not None:
        configs = [shlex.join([f"--seat={seat.words}"]) for seat in seats]
    last_resort = f"-m launch.last_resort $status {' '.join(flags(options, LAST_RESORT))}"
    return [
        "status=$?",
        f"runs=({' '.join(shlex.quote(config) for config in configs)})",
        f'eval exec {shlex.quote(options.python)} {last_resort} "${{runs[${{SLURM_ARRAY_TASK_ID:-0}}]}}"',
    ]
