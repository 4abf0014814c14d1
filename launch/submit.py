"""The owner of submitit: from a checked job to sbatch, or to the text that would go there."""

import argparse
import glob
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import SlurmExecutor

from dist_train.errors import ConfigError
from launch.code_copy import Snapshot
from launch.job import Job
from launch.options import environment_pythonpath, last_line
from launch.supervise import Task, supervise


class _AnywhereExecutor(SlurmExecutor):  # type: ignore[misc]  # submitit is untyped
    """Writes scripts where there is no SLURM as well."""

    @classmethod
    def affinity(cls) -> int:
        return 2


@dataclass(frozen=True)
class Submitted:
    """One run in the queue."""

    job_id: str
    logs: str
    """Pattern of its log files, one for each node."""


def make_tasks(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> list[Task]:
    """What the supervisors of each run are told."""
    return [
        Task(config, overrides, job.procs, args.max_restarts, args.max_requeues, args.signal_delay)
        for config, overrides in snapshot.configs
    ]


def script(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> str:
    """The sbatch script, without submitting it."""
    executor = _AnywhereExecutor(job.home.absolute(), python=args.python)
    executor.update_parameters(**_parameters(args, job, snapshot))
    if job.sweep:
        executor.parameters["map_count"] = len(job.runs)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))


def submit(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> list[Submitted]:
    """Hand the runs to SLURM: one as a job, several as an array.

    Raises:
        ConfigError: SLURM does not take them, and why.
    """
    executor = SlurmExecutor(job.home.absolute(), python=args.python)
    executor.update_parameters(**_parameters(args, job, snapshot))
    tasks = make_tasks(args, job, snapshot)
    conf = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    # In an allocation the shell's own SLURM_ variables (CPU binding, task counts) would leak into the job.
    with submitit.helpers.clean_env():
        os.environ.update(conf)
        try:
            if job.sweep:
                with executor.batch(allow_implicit_submissions=False):
                    jobs = [executor.submit(supervise, task) for task in tasks]
            else:
                jobs = [executor.submit(supervise, tasks[0])]
        except FailedJobError as error:
            raise ConfigError(f"sbatch refuses the job, which --dry-run shows: {last_line(str(error))}") from None
    folder = glob.escape(str(job.home.absolute()))
    return [Submitted(j.job_id, f"{folder}/{j.job_id}_*_log.out") for j in jobs]


def _parameters(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> dict[str, Any]:
    """The job in submitit's words."""
    extra: dict[str, Any] = {"requeue": True, "chdir": str(Path.cwd())}
    extra |= {
        key: getattr(args, key)
        for key in ("mem", "partition", "account", "qos", "constraint", "exclude")
        if getattr(args, key)
    }
    extra |= dict(args.sbatch)
    parameters = {
        "job_name": job.name,
        "nodes": job.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": job.cpus,
        "time": -(-job.seconds // 60),
        "signal_delay_s": args.signal_delay,
        "stderr_to_stdout": True,
        "wckey": None,
        "array_parallelism": args.max_parallel,
        "additional_parameters": extra,
        # srun does not take the CPUs from sbatch (since 22.05), and would truncate the log at a requeue. Where jobs are
        # submitted with --export=NONE it would give the supervisors nothing of what `_setup` exports.
        "srun_args": ["--kill-on-bad-exit=1", "--open-mode=append", "--export=ALL", f"--cpus-per-task={job.cpus}"],
        "setup": _setup(args, snapshot),
        "teardown": _teardown(args, snapshot),
    }
    return parameters | ({"gpus_per_node": job.gpus} if job.gpus else {})


def _setup(args: argparse.Namespace, snapshot: Snapshot) -> list[str]:
    # What `module load` has put into PYTHONPATH on the node stays in it.
    path = f"export PYTHONPATH={shlex.quote(environment_pythonpath(snapshot.code))}${{PYTHONPATH:+:$PYTHONPATH}}"
    env = {"PYTHONSAFEPATH": "1"} | dict(args.env)
    return [*args.setup, path, *(f"export {key}={shlex.quote(value)}" for key, value in env.items())]


def _teardown(args: argparse.Namespace, snapshot: Snapshot) -> list[str]:
    """The end of the batch script: what srun says of supervisors that died."""
    configs = [shlex.join(["--config", config, *overrides]) for config, overrides in snapshot.configs]
    choice = f"runs=({' '.join(shlex.quote(config) for config in configs)})"
    return [
        "status=$?",
        choice,
        f"eval exec {shlex.quote(args.python)} -m launch.last_resort $status --max-requeues {args.max_requeues} "
        '"${runs[${SLURM_ARRAY_TASK_ID:-0}]}"',
    ]
