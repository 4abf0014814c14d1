"""From a checked job to sbatch, or to the text of its script. Only this module uses submitit."""

import glob
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.errors import ConfigError
from launch.code_copy import Snapshot
from launch.installation import pythonpath
from launch.job import Job
from launch.job_options import LAST_RESORT, JobOptions, flags
from launch.options import last_line
from launch.supervise import supervise

try:
    import submitit
    from submitit.core.utils import FailedJobError
    from submitit.slurm.slurm import SlurmExecutor
except ModuleNotFoundError as error:
    raise ConfigError(f"a SLURM job needs {error.name}: pip install {error.name}") from None


class _AnywhereExecutor(SlurmExecutor):  # type: ignore[misc]  # submitit is untyped
    """Writes scripts on machines without SLURM too."""

    @classmethod
    def affinity(cls) -> int:
        return 2


@dataclass(frozen=True)
class Submitted:
    """One run in the queue."""

    job_id: str
    logs: str
    """Pattern of its log files, one for each node."""


def script(job: Job, snapshot: Snapshot) -> str:
    """Return the sbatch script, without submitting it."""
    executor = _AnywhereExecutor(job.home.absolute(), python=job.options.python)
    executor.update_parameters(**_parameters(job, snapshot))
    if job.sweep:
        executor.parameters["map_count"] = len(job.runs)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))


def submit(job: Job, snapshot: Snapshot) -> list[Submitted]:
    """Hand the runs to SLURM: one as a job, several as an array.

    Raises:
        ConfigError: SLURM refuses them.
    """
    executor = SlurmExecutor(job.home.absolute(), python=job.options.python)
    executor.update_parameters(**_parameters(job, snapshot))
    conf = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    # In an allocation the shell's own SLURM_ variables (CPU binding, task counts) would leak into the job.
    with submitit.helpers.clean_env():
        os.environ.update(conf)
        try:
            if job.sweep:
                with executor.batch(allow_implicit_submissions=False):
                    jobs = [executor.submit(supervise, task) for task in snapshot.tasks]
            else:
                jobs = [executor.submit(supervise, snapshot.tasks[0])]
        except FailedJobError as error:
            raise ConfigError(f"sbatch refuses the job, which --dry-run shows: {last_line(str(error))}") from None
    folder = glob.escape(str(job.home.absolute()))
    return [Submitted(j.job_id, f"{folder}/{j.job_id}_*_log.out") for j in jobs]


def _parameters(job: Job, snapshot: Snapshot) -> dict[str, Any]:
    """Return the job in submitit's words."""
    options = job.options
    extra: dict[str, Any] = {"requeue": True, "chdir": str(Path.cwd())} | options.for_sbatch() | dict(options.sbatch)
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
        # srun does not take the CPUs from sbatch (since 22.05), and would truncate the log at a requeue. Where jobs are
        # submitted with --export=NONE it would give the supervisors nothing of what `_setup` exports.
        "srun_args": ["--kill-on-bad-exit=1", "--open-mode=append", "--export=ALL", f"--cpus-per-task={job.cpus}"],
        "setup": _setup(options, snapshot),
        "teardown": _teardown(options, snapshot),
    }
    return parameters | ({"gpus_per_node": job.gpus} if job.gpus else {})


def _setup(options: JobOptions, snapshot: Snapshot) -> list[str]:
    # What `module load` has put into PYTHONPATH on the node stays in it.
    path = f"export PYTHONPATH={shlex.quote(pythonpath(snapshot.code))}${{PYTHONPATH:+:$PYTHONPATH}}"
    env = {"PYTHONSAFEPATH": "1"} | dict(options.env)
    return [*options.setup, path, *(f"export {key}={shlex.quote(value)}" for key, value in env.items())]


def _teardown(options: JobOptions, snapshot: Snapshot) -> list[str]:
    """Return the end of the batch script, which looks after a job whose supervisors were killed."""
    configs = [shlex.join([f"--config={task.config}", *task.overrides]) for task in snapshot.tasks]
    last_resort = f"-m launch.last_resort $status {' '.join(flags(options, LAST_RESORT))}"
    return [
        "status=$?",
        f"runs=({' '.join(shlex.quote(config) for config in configs)})",
        f'eval exec {shlex.quote(options.python)} {last_resort} "${{runs[${{SLURM_ARRAY_TASK_ID:-0}}]}}"',
    ]
