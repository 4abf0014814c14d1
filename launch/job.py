"""What is submitted: one run or several, with their resources. Checked here, before anything waits in a queue."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dist_train.config import Config, load_config
from dist_train.config.plan import make_plan
from dist_train.config.types import seconds_of
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from launch import scontrol
from launch.options import ROOT, environment_pythonpath, last_line
from launch.starts import read_submissions


@dataclass(frozen=True)
class Run:
    """One run of a submission."""

    cfg: Config
    overrides: list[str]

    @property
    def folder(self) -> RunDir:
        return RunDir.of(self.cfg)


@dataclass(frozen=True)
class Job:
    """Resources of one start, with every default filled in."""

    runs: list[Run]
    config: str
    nodes: int
    gpus: int
    """GPUs a node."""
    procs: int
    """Workers a node."""
    cpus: int
    """CPUs a node."""
    seconds: int
    """Walltime."""
    sweep: str | None = None
    """Name of the sweep: W&B group, and name of the array."""

    @property
    def world_size(self) -> int:
        return self.nodes * self.procs

    @property
    def name(self) -> str:
        return self.sweep or self.runs[0].cfg.run.name

    @property
    def home(self) -> Path:
        """Where submitit keeps scripts and logs."""
        first = self.runs[0].folder.path
        return (first.parent / self.sweep if self.sweep else first) / "slurm"

    def describe(self) -> str:
        """The plan for people."""
        devices = f"{self.gpus} GPU(s)" if self.gpus else "no GPU"
        lines = [
            f"{self.nodes} node(s) x {self.procs} worker(s) = {self.world_size} rank(s); "
            f"{devices} and {self.cpus} CPU(s) a node",
            f"{len(self.runs)} run(s):" if self.sweep else "run folder: " + str(self.runs[0].folder.path),
        ]
        if self.sweep:
            lines += [f"  {run.folder.path}: {' '.join(run.overrides)}" for run in self.runs]
        return "\n".join(lines)


def make_job(args: argparse.Namespace, combinations: Sequence[tuple[str | None, list[str]]], sweep: str | None) -> Job:
    """Fill in what the user left open, and check what can be checked without torch.

    Args:
        combinations: name of the run (None: the config's) and its overrides, for each run.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    gpus = args.gpus_per_node
    if gpus is None:
        gpus = (scontrol.gpus_in_a_node(args.partition) or 0) if args.cluster == "slurm" else 0
    procs = args.procs_per_node or gpus or 1
    runs = []
    for name, overrides in combinations:
        named = [*args.overrides, *overrides, *([f"run.name={name}"] if name else [])]
        if sweep and load_config(args.config, named).log.wandb.group is None:
            named.append(f"log.wandb.group={sweep}")
        runs.append(Run(load_config(args.config, named), named))
    job = Job(runs, args.config, args.nodes, gpus, procs, args.cpus_per_gpu * procs, seconds_of(args.time), sweep)
    _check_resources(job, args)
    for run in runs:
        if not args.no_check:
            _check_files(run.cfg)
        # Any length will do for the arithmetic of batches; `dist_train --check` knows the true one.
        make_plan(run.cfg, train_images=run.cfg.train.global_batch, world_size=job.world_size)
    return job


def _check_resources(job: Job, args: argparse.Namespace) -> None:
    if job.gpus and job.procs > job.gpus:
        raise ConfigError(
            f"--procs-per-node ({job.procs}) must not exceed --gpus-per-node ({job.gpus}): a worker needs a GPU"
        )
    if args.signal_delay >= job.seconds:
        raise ConfigError(
            f"--signal-delay ({args.signal_delay} s) must be shorter than --time ({args.time} = {job.seconds} s)"
        )
    if args.partition and args.cluster == "slurm":
        known = scontrol.partitions()
        unknown = [name for name in args.partition.split(",") if known and name not in known]
        if unknown:
            raise ConfigError(f"--partition ({unknown[0]}) does not exist here; there are {', '.join(known)}")


def _check_files(cfg: Config) -> None:
    if cfg.data.root and not Path(cfg.data.root).exists():
        raise ConfigError(
            f"`data.root` ({cfg.data.root}) does not exist on this machine (--no-check, if it does on the nodes)"
        )
    if cfg.model.weights and not Path(cfg.model.weights).is_file():
        raise ConfigError(f"`model.weights` ({cfg.model.weights}) is no file on this machine")


def check_not_running(run: Run) -> None:
    """Two jobs must not write into one run folder.

    Raises:
        ConfigError: a job of this run waits or runs.
    """
    submissions = read_submissions(run.folder)
    if submissions:
        job_id = submissions[-1]["job"]
        job = scontrol.show_job(job_id)
        if job.state != "UNKNOWN" and not job.over:
            raise ConfigError(
                f"{run.folder.path} already has job {job_id} ({job.state}); "
                f"cancel it (scancel {job_id}) or choose another run.name"
            )


def is_done(run: Run) -> bool:
    """Whether the run has ended well."""
    return read_result(run.folder).get("status") == "done"


def check_with_trainer(job: Job) -> str:
    """Let the trainer itself check the first run: model, weights, data, step count.

    Returns:
        Its plan.

    Raises:
        ConfigError: what it says.
    """
    command = [sys.executable, "-m", "dist_train", "--check", f"--world-size={job.world_size}"]
    command += ["--config", job.config, *job.runs[0].overrides]
    env = os.environ | {"PYTHONPATH": environment_pythonpath(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        messages = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
        raise ConfigError("\n".join(messages) or f"`dist_train --check` failed: {last_line(done.stderr)}")
    return done.stdout.strip()
