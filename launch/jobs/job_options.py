"""All options of the launcher and their defaults, in one dataclass.

The command line, the cluster's file of defaults, the sbatch script and the supervisors' command lines are built from it; a
test compares the templates in ``slurm/`` with it. To add an option of sbatch, add one field with ``_sbatch``.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from dist_train.system.terminal import positive
from launch.jobs.option_values import (
    Draw,
    Gpus,
    Halving,
    container_option,
    draw,
    gpus,
    halving,
    memory,
    mount,
    natural,
    pair,
    sbatch_option,
    srun_option,
    walltime,
)

RUN = "run"
RESOURCES = "resources"
BEHAVIOUR = "signals, restarts, environment"
CONTAINERS = "containers: the workers run inside, the supervisors outside, where SLURM's commands are"
SWEEPS = "sweeps: one array, one run folder for each combination"
MODES = "modes"


def _option(group: str, default: Any, help: str, **argparse_words: Any) -> Any:
    """Return a field; ``argparse_words`` are passed to ``add_argument``."""
    metadata = {"group": group, "argparse": {"help": help, **argparse_words}}
    return field(default=default, metadata=metadata)


def _list_option(group: str, help: str, **argparse_words: Any) -> Any:
    """Return a field whose option can be given several times."""
    return _option(group, (), help, action="append", **argparse_words)


def _switch(help: str) -> Any:
    return _option(MODES, False, help, action="store_true")


def _sbatch(variable: str, help: str, **argparse_words: Any) -> Any:
    """Return a field that is passed to sbatch under the same name.

    Its default is the environment variable ``variable``. sbatch would read that too, but would prefer it to the script, so
    that it would override our command line; submitit hides it from sbatch.
    """
    words = {"help": f"{help} (${variable})", **argparse_words}
    metadata = {"group": RESOURCES, "argparse": words, "sbatch": variable}
    return field(default_factory=lambda: os.environ.get(variable), metadata=metadata)


@dataclass(frozen=True)
class JobOptions:
    """The options of a submission. Field ``max_requeues`` is the option ``--max-requeues``, and so on."""

    config: str | None = _option(RUN, None, "YAML file of the run", metavar="FILE")
    overrides: tuple[str, ...] = ()
    """``key.path=value`` for each value of the file to override."""

    nodes: int = _option(RESOURCES, 1, "number of nodes (%(default)s)", type=positive, metavar="N")
    gpus_per_node: Gpus | None = _option(  # noqa: RUF009  # ruff does not know that Gpus is immutable
        RESOURCES,
        None,
        "GPUs per node, such as 4 or a100:4 (default: all GPUs of a node in the partition)",
        type=gpus,
        metavar="[TYPE:]G",
    )
    procs_per_node: int | None = _option(
        RESOURCES, None, "worker processes per node (default: one per GPU, or 1)", type=positive, metavar="P"
    )
    cpus_per_gpu: int = _option(RESOURCES, 8, "CPUs per worker (%(default)s)", type=positive, metavar="C")
    mem: str | None = _sbatch("SBATCH_MEM_PER_NODE", "memory per node, such as 64G", type=memory, metavar="SIZE")
    time: str = _option(RESOURCES, "24:00:00", "time limit of one start (%(default)s)", type=walltime, metavar="H:M:S")
    partition: str | None = _sbatch("SBATCH_PARTITION", "partition", metavar="NAME")
    account: str | None = _sbatch("SBATCH_ACCOUNT", "account to charge", metavar="NAME")
    qos: str | None = _sbatch("SBATCH_QOS", "quality of service", metavar="NAME")
    constraint: str | None = _sbatch("SBATCH_CONSTRAINT", "required features of nodes", metavar="LIST")
    reservation: str | None = _sbatch("SBATCH_RESERVATION", "reservation to use", metavar="NAME")
    exclude: str | None = _sbatch("SBATCH_EXCLUDE", "nodes to avoid", metavar="NODES")
    sbatch: tuple[tuple[str, str | bool], ...] = _list_option(
        RESOURCES,
        "another option of sbatch, such as exclusive or licenses=scratch:1",
        type=sbatch_option,
        metavar="KEY[=VALUE]",
    )
    srun: tuple[tuple[str, str | bool], ...] = _list_option(
        RESOURCES,
        "an option of the srun that starts the supervisors, such as mpi=none",
        type=srun_option,
        metavar="KEY[=VALUE]",
    )

    signal_delay: int = _option(
        BEHAVIOUR,
        120,
        "seconds before the time limit to save and stop; use a save's time + 30 s (%(default)s)",
        type=positive,
        metavar="S",
    )
    max_requeues: int = _option(
        BEHAVIOUR, 50, "largest number of starts after the first (%(default)s)", type=natural, metavar="R"
    )
    max_restarts: int = _option(
        BEHAVIOUR, 2, "restarts of crashed workers within one start (%(default)s)", type=natural, metavar="R"
    )
    env: tuple[tuple[str, str], ...] = _list_option(
        BEHAVIOUR, "environment variable of the job", type=pair, metavar="KEY=VALUE"
    )
    setup: tuple[str, ...] = _list_option(
        BEHAVIOUR, "shell command before the run, such as 'module load cuda'", metavar="COMMAND"
    )
    python: str = _option(
        BEHAVIOUR, shlex.quote(sys.executable), "Python on the nodes (default: this one)", metavar="COMMAND"
    )

    container: str | None = _option(
        CONTAINERS, None, "image that holds Python, torch and the other packages of the workers", metavar="IMAGE"
    )
    container_runtime: Literal["pyxis", "apptainer"] | None = _option(
        CONTAINERS,
        None,
        "what runs the image (default: apptainer for *.sif, a folder, and TYPE://..., such as docker://...; else pyxis)",
        choices=("pyxis", "apptainer"),
    )
    container_mounts: tuple[str, ...] = _list_option(
        CONTAINERS,
        "a path to show inside, besides the code, the run folder and the paths in the config",
        type=mount,
        metavar="SRC[:DST[:FLAGS]]",
    )
    container_python: str | None = _option(
        CONTAINERS, None, "Python in the image (default: python3)", metavar="COMMAND"
    )
    container_option: tuple[str, ...] = _list_option(
        CONTAINERS,
        "another option of the runtime, such as no-container-mount-home (pyxis) or rocm (apptainer)",
        type=container_option,
        metavar="KEY[=VALUE]",
    )

    sweep: tuple[str, ...] = _list_option(
        SWEEPS,
        "a key and its values or range (log, uniform, int, choice), or a YAML file of the sweep",
        metavar="KEY=V1,V2|KEY=log(A,B)|FILE",
    )
    draw: Draw | None = _option(  # noqa: RUF009  # ruff does not know that Draw is immutable
        SWEEPS,
        None,
        "how many points of the ranges to draw: halton (spread evenly) or random; each is crossed with the listed values",
        type=draw,
        metavar="halton:16[,seed=0]",
    )
    halving: Halving | None = _option(  # noqa: RUF009  # ruff does not know that Halving is immutable
        SWEEPS,
        None,
        "let only the best runs go on: one of FACTOR after epoch E, then after E * FACTOR, ... (successive halving)",
        type=halving,
        metavar="factor=3,first_epoch=1",
    )
    max_parallel: int = _option(
        SWEEPS, 256, "largest number of runs at the same time (%(default)s)", type=positive, metavar="N"
    )

    cluster: Literal["slurm", "local"] = _option(
        MODES,
        "slurm",
        "local: run on this machine without SLURM; ignores --setup and --python",
        choices=("slurm", "local"),
    )
    dry_run: bool = _switch("print script, command and plan; submit nothing")
    no_check: bool = _switch(
        "skip `dist_train --check`, which reads data, weights and model on this machine; limits of the cluster only warn"
    )
    no_snapshot: bool = _switch("run the code in this folder instead of a copy of it made now")
    follow: bool = _switch("print the log until the run ends; the exit code is that of the run")
    cluster_config: str | None = _option(MODES, None, "YAML file of the cluster's defaults", metavar="FILE")

    @classmethod
    def parsed(cls, arguments: argparse.Namespace) -> Self:
        """Return the options that a parser has read. An option that the parser does not have gets its default."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(arguments).items()
            if name in ("overrides", *NAMES)
        }
        return cls(**known)

    def for_sbatch(self) -> dict[str, str]:
        """Return the options that are passed to sbatch under the same names."""
        named = {option.name: getattr(self, option.name) for option in fields(self) if option.metadata.get("sbatch")}
        return {name: value for name, value in named.items() if value}


OPTIONS = tuple(option for option in fields(JobOptions) if option.name != "overrides")
NAMES = tuple(option.name for option in OPTIONS)


def without_effect(env: Iterable[str]) -> list[str]:
    """Return the variables for sbatch that a job does not get: sbatch would prefer them to the script."""
    read = [option.metadata.get("sbatch") for option in OPTIONS]
    return sorted(name for name in env if name.startswith("SBATCH_") and name not in read)


SUPERVISOR = (
    *("procs_per_node", "max_restarts", "max_requeues", "signal_delay"),
    *("container", "container_runtime", "container_mounts", "container_python", "container_option"),
)
"""The options on the command line of a supervisor."""
LAST_RESORT = ("max_requeues",)


def add_options(parser: argparse.ArgumentParser, names: Iterable[str] = NAMES) -> None:
    """Add the options of these names to a parser, in their groups, and the overrides."""
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a value of the file")
    wanted = [option for option in OPTIONS if option.name in names]
    for title in dict.fromkeys(option.metadata["group"] for option in wanted):
        group = parser.add_argument_group(title)
        for option in wanted:
            if option.metadata["group"] == title:
                default = getattr(JobOptions(), option.name)
                default = list(default) if isinstance(default, tuple) else default  # argparse appends to a copy
                group.add_argument(flag(option.name), default=default, **option.metadata["argparse"])


def flag(name: str) -> str:
    """Return the option of a field, such as ``--max-requeues`` for ``max_requeues``."""
    return f"--{name.replace('_', '-')}"


def flags(options: JobOptions, names: Iterable[str]) -> list[str]:
    """Return the command line that passes these options to a parser of them."""
    values = ((name, getattr(options, name)) for name in names)
    listed = ((name, value if isinstance(value, tuple) else (value,)) for name, value in values)
    return [f"{flag(name)}={item}" for name, items in listed for item in items if item is not None]
