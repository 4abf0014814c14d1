"""A job: one or several runs and their resources, checked before the job is submitted."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dist_train.config.load import load_config
from dist_train.config.planning import make_plan
from dist_train.config.schema import Config
from dist_train.config.types import is_remote, seconds_of
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from dist_train.run.result import read_result
from launch.installation import pythonpath, user_code
from launch.jobs import limits
from launch.jobs.container import check_container, runtime_of
from launch.jobs.job_options import JobOptions
from launch.jobs.option_values import Gpus
from launch.jobs.options import last_line
from launch.runs.starts import read_submissions
from launch.scheduler import cluster, scontrol


@dataclass(frozen=True)
class Run:
    """One run of a job."""

    cfg: Config
    overrides: list[str]

    @property
    def folder(self) -> RunDir:
        return RunDir.of(self.cfg.run)


@dataclass(frozen=True)
class Task:
    """What a supervisor needs to know. submitit pickles it and sends it to the nodes."""

    config: str
    overrides: list[str]
    options: JobOptions

    @property
    def procs(self) -> int:
        """Workers per node."""
        return self.options.procs_per_node or 1


@dataclass(frozen=True)
class Job:
    """One submission: its runs, and its options with the numbers of GPUs and workers filled in."""

    runs: list[Run]
    options: JobOptions
    why_no_gpu: str = ""
    """Why no GPU was found; empty if the user gave the number, or GPUs were found."""
    sweep: str | None = None
    """Name of the sweep, which names the W&B group and the SLURM array too."""

    @property
    def config(self) -> str:
        return str(self.options.config)

    @property
    def nodes(self) -> int:
        return self.options.nodes

    @property
    def gpus(self) -> int:
        """GPUs per node."""
        return self.options.gpus_per_node.count if self.options.gpus_per_node else 0

    @property
    def procs(self) -> int:
        """Workers per node."""
        return self.options.procs_per_node or 1

    @property
    def cpus(self) -> int:
        """CPUs per node."""
        return self.options.cpus_per_gpu * self.procs

    @property
    def seconds(self) -> int:
        """Walltime of one start."""
        return seconds_of(self.options.time)

    @property
    def world_size(self) -> int:
        return self.nodes * self.procs

    @property
    def name(self) -> str:
        return self.sweep or self.runs[0].cfg.run.name

    @property
    def home(self) -> Path:
        """Folder of submitit's scripts and logs."""
        first = self.runs[0].folder.path
        return (first.parent / self.sweep if self.sweep else first) / "slurm"

    def describe(self) -> str:
        """Return the lines that are printed before the submission."""
        why = f" ({self.why_no_gpu})" if self.why_no_gpu else ""
        kind = f" {self.options.gpus_per_node.kind}" if self.options.gpus_per_node else ""
        devices = f"{self.gpus}{kind.rstrip()} GPU(s)" if self.gpus else f"no GPU{why}"
        lines = [
            f"{self.nodes} node(s) x {self.procs} worker(s) = {self.world_size} rank(s); "
            f"{devices} and {self.cpus} CPU(s) per node",
            f"{len(self.runs)} run(s):" if self.sweep else "run folder: " + str(self.runs[0].folder.path),
        ]
        if self.options.cluster == "slurm":
            lines.insert(1, f"Python on the nodes: {self.options.python}")
        if self.options.container:
            lines.insert(1, f"workers in the container {self.options.container}, by {runtime_of(self.options)}")
        if self.sweep:
            lines += [f"  {run.folder.path}: {' '.join(run.overrides)}" for run in self.runs]
        return "\n".join(lines)


def make_job(options: JobOptions, combinations: Sequence[tuple[str | None, list[str]]], sweep: str | None) -> Job:
    """Fill in the options that the user did not give, and check what needs no torch.

    Args:
        combinations: for each run its name (None: from the config) and its overrides.

    Raises:
        ConfigError: an option or a config is wrong; the message names the first one.
    """
    runs = [_make_run(options, name, overrides, sweep) for name, overrides in combinations]
    check_container(options)
    job = Job(runs, *_fill_in(options), sweep)
    _check_resources(job)
    for run in runs:
        if not options.no_check:
            _check_files(run.cfg)
        # The plan checks batch sizes for any number of images; `dist_train --check` uses the real number.
        make_plan(run.cfg, train_images=run.cfg.train.global_batch, world_size=job.world_size)
    return job


def config_of_job(config: str, overrides: Sequence[str]) -> Config:
    """Return the config of a run that supervisors start.

    Raises:
        ConfigError: it is wrong, or asks for something that a supervisor cannot judge.
    """
    cfg = load_config(config, list(overrides))
    if cfg.train.fast_dev_run:
        raise ConfigError(
            f"`train.fast_dev_run` ({cfg.train.fast_dev_run}) is for a terminal: it keeps nothing that a job could report; type "
            f"`torchrun --nproc_per_node=N -m dist_train --config {config} train.fast_dev_run=true` "
            "(on a cluster after `salloc` or `srun --pty`), and remove the key for the job"
        )
    return cfg


def _make_run(options: JobOptions, name: str | None, overrides: list[str], sweep: str | None) -> Run:
    named = [*options.overrides, *overrides, *([f"run.name={name}"] if name else [])]
    cfg = config_of_job(str(options.config), named)
    if sweep and cfg.log.wandb.group is None:
        named.append(f"log.wandb.group={sweep}")
        cfg = load_config(str(options.config), named)
    return Run(cfg, named)


def _fill_in(options: JobOptions) -> tuple[JobOptions, str]:
    """Return the options with the numbers of GPUs and workers filled in, and why no GPU was found."""
    gpus, why = options.gpus_per_node, ""
    if gpus is None and options.cluster == "slurm":
        found = cluster.known(options.dry_run).gpus_in_a_node(options.partition)
        gpus, where = (
            Gpus(found or 0),
            f"partition {options.partition}" if options.partition else "the default partition",
        )
        if found is None:
            why = "sinfo gives no answer on this machine; set --gpus-per-node"
        elif not found:
            why = f"sinfo lists none in {where}; choose another --partition, or set --gpus-per-node"
    gpus = gpus or Gpus()
    return replace(options, gpus_per_node=gpus, procs_per_node=options.procs_per_node or gpus.count or 1), why


def _check_resources(job: Job) -> None:
    options = job.options
    if job.gpus and job.procs > job.gpus:
        raise ConfigError(
            f"--procs-per-node ({job.procs}) must not exceed --gpus-per-node ({job.gpus}): a worker needs a GPU"
        )
    if options.signal_delay >= job.seconds:
        raise ConfigError(
            f"--signal-delay ({options.signal_delay} s) must be shorter than --time ({options.time} = {job.seconds} s)"
        )
    if options.partition and options.cluster == "slurm":
        known = cluster.known(options.dry_run).partitions
        unknown = [name for name in options.partition.split(",") if known and name not in known]
        if unknown:
            raise ConfigError(f"--partition ({unknown[0]}) does not exist here; use one of: {', '.join(known)}")


def array_size(job: Job) -> tuple[int, int]:
    """Return the largest number of runs in an array, and the number of arrays.

    Raises:
        ConfigError: ``--max-parallel`` is less than the number of arrays, which run side by side.
    """
    here = cluster.known(job.options.dry_run) if job.options.cluster == "slurm" else cluster.Cluster()
    size = max(1, here.max_array if here.max_array is not None else len(job.runs))
    count = -(-len(job.runs) // size)
    if count > 1 and job.options.max_parallel < count:
        raise ConfigError(
            f"--max-parallel ({job.options.max_parallel}) must be at least {count}: the cluster allows {size} runs in one "
            f"array (MaxArraySize), so that these {len(job.runs)} runs need {count} arrays, which run side by side"
        )
    return size, count


def check_limits(job: Job) -> list[str]:
    """Compare the job with what the cluster offers.

    Returns:
        Warnings.

    Raises:
        ConfigError: the job can never start. With ``--no-check`` and ``--qos`` this is a warning: a site may have changed
            since, and a QOS may lift the limits of a partition.
    """
    options, here = job.options, cluster.known(job.options.dry_run)
    if here.silent:
        return ["SLURM does not answer: the GPUs of its nodes and its limits are not known"]
    request = limits.Request(
        *(options.partition, options.time, job.seconds, job.nodes, job.cpus),
        *(options.mem, options.gpus_per_node or Gpus()),
    )
    array_size(job)
    found = limits.complaints(request, here)
    if found and not (options.no_check or options.qos):
        raise ConfigError(
            "\n".join(f"{text}: SLURM would never start the job (--no-check submits it)" for text in found)
        )
    down = [f"partition {name} is down: the job waits until it is up" for name in limits.downs(request, here)]
    return [*(f"{text}: the job may wait for ever" for text in found), *down]


def _check_files(cfg: Config) -> None:
    if cfg.data.root and not is_remote(cfg.data.root) and not Path(cfg.data.root).exists():
        raise ConfigError(
            f"`data.root` ({cfg.data.root}) does not exist on this machine; use --no-check if it does on the nodes"
        )
    if cfg.model.weights and not Path(cfg.model.weights).is_file():
        raise ConfigError(f"`model.weights` ({cfg.model.weights}) is not a file on this machine")


def check_not_running(run: Run) -> None:
    """Check that no other job writes into the run folder.

    Raises:
        ConfigError: a job of this run is pending or running.
    """
    submissions = read_submissions(run.folder)
    if submissions:
        job_id = submissions[-1]["job"]
        job = scontrol.show_job(job_id)
        if job.state != "UNKNOWN" and not job.over:
            raise ConfigError(
                f"{run.folder.path} already has job {job_id} ({job.state}); "
                f"cancel it (scancel {job_id}), or choose another run.name"
            )


def is_done(run: Run) -> bool:
    """Return whether the run is done."""
    return read_result(run.folder).get("status") == "done"


def check_with_trainer(job: Job) -> str:
    """Run ``dist_train --check`` for the first run: model, weights, data, number of steps.

    Returns:
        The plan that it prints.

    Raises:
        ConfigError: the trainer found an error.
    """
    command = [sys.executable, "-m", "dist_train", "--check", f"--world-size={job.world_size}"]
    command += ["--config", job.config, *job.runs[0].overrides]
    env = os.environ | {"PYTHONPATH": pythonpath(user_code())}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        messages = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
        raise ConfigError("\n".join(messages) or f"`dist_train --check` failed: {last_line(done.stderr)}")
    return done.stdout.strip()
