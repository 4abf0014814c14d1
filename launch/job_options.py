"""All options of the launcher with their defaults: one dataclass, from which everything else is built.

The command line, a site's file, the sbatch script, the supervisors' command lines and the templates in ``slurm/`` come
from it or are tested against it. To add an option of sbatch, add one field with ``_sbatch``: it then has its place in
all of them.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from dist_train.system.terminal import positive
from launch.option_values import memory, natural, pair, sbatch_option, walltime

RUN = "run"
RESOURCES = "resources"
BEHAVIOUR = "signals, restarts, environment"
SWEEPS = "sweeps: one array, one run folder for each combination"
MODES = "modes"


def _option(group: str, default: Any, help: str, **argparse_words: Any) -> Any:
    """Return a field; ``argparse_words`` go to ``add_argument`` as they are."""
    metadata = {"group": group, "argparse": {"help": help, **argparse_words}}
    return field(default=default, metadata=metadata)


def _list_option(group: str, help: str, **argparse_words: Any) -> Any:
    """Return a field whose option may be repeated."""
    return _option(group, (), help, action="append", **argparse_words)


def _switch(help: str) -> Any:
    return _option(MODES, False, help, action="store_true")


def _sbatch(variable: str, help: str = "the same option of sbatch", **argparse_words: Any) -> Any:
    """Return a field that sbatch gets under its own name.

    submitit hides SBATCH_ variables, which would also overrule the command line: so ``variable`` is the default here.
    """
    words = {"help": f"{help} (or {variable})", **argparse_words}
    metadata = {"group": RESOURCES, "argparse": words, "sbatch": True}
    return field(default_factory=lambda: os.environ.get(variable), metadata=metadata)


@dataclass(frozen=True)
class JobOptions:
    """What a user may say about a submission. Names are those of the command line, with ``_`` for ``-``."""

    config: str | None = _option(RUN, None, "the run's YAML file", metavar="FILE")
    overrides: tuple[str, ...] = ()
    """``key.path=value`` for each value of the file to replace."""

    nodes: int = _option(RESOURCES, 1, "(%(default)s)", type=positive, metavar="N")
    gpus_per_node: int | None = _option(
        RESOURCES, None, "(all that a node of the partition has)", type=natural, metavar="G"
    )
    procs_per_node: int | None = _option(
        RESOURCES, None, "workers (one per GPU, or one without GPUs)", type=positive, metavar="P"
    )
    cpus_per_gpu: int = _option(RESOURCES, 8, "CPUs per worker (%(default)s)", type=positive, metavar="C")
    mem: str | None = _sbatch("SBATCH_MEM_PER_NODE", "memory per node, such as 64G", type=memory, metavar="SIZE")
    time: str = _option(RESOURCES, "24:00:00", "walltime of one start (%(default)s)", type=walltime)
    partition: str | None = _sbatch("SBATCH_PARTITION")
    account: str | None = _sbatch("SBATCH_ACCOUNT")
    qos: str | None = _sbatch("SBATCH_QOS")
    constraint: str | None = _sbatch("SBATCH_CONSTRAINT")
    reservation: str | None = _sbatch("SBATCH_RESERVATION")
    exclude: str | None = _sbatch("SBATCH_EXCLUDE", metavar="NODES")
    sbatch: tuple[tuple[str, str | bool], ...] = _list_option(
        RESOURCES,
        "any other option of sbatch, such as exclusive or licenses=scratch:1",
        type=sbatch_option,
        metavar="KEY[=VALUE]",
    )

    signal_delay: int = _option(
        BEHAVIOUR, 120, "stop S seconds before the walltime: a save and 30 s (%(default)s)", type=positive, metavar="S"
    )
    max_requeues: int = _option(BEHAVIOUR, 50, "starts after the first (%(default)s)", type=natural, metavar="R")
    max_restarts: int = _option(
        BEHAVIOUR, 2, "restarts of crashed workers in one start (%(default)s)", type=natural, metavar="R"
    )
    env: tuple[tuple[str, str], ...] = _list_option(BEHAVIOUR, "environment of the job", type=pair, metavar="K=V")
    setup: tuple[str, ...] = _list_option(
        BEHAVIOUR, "shell line before the run, such as 'module load cuda'", metavar="COMMAND"
    )
    python: str = _option(
        BEHAVIOUR, shlex.quote(sys.executable), "interpreter on the nodes (this one)", metavar="COMMAND"
    )

    sweep: tuple[str, ...] = _list_option(SWEEPS, "a key's values, or a YAML file", metavar="KEY=V1,V2|FILE")
    max_parallel: int = _option(SWEEPS, 256, "array tasks at a time (%(default)s)", type=positive, metavar="N")

    cluster: Literal["slurm", "local"] = _option(
        MODES, "slurm", "local: on this machine, without SLURM, --setup and --python", choices=("slurm", "local")
    )
    dry_run: bool = _switch("print script, command and plan; submit nothing")
    no_check: bool = _switch("look at no data, weights or model here: skip `dist_train --check`")
    no_snapshot: bool = _switch("run the working copy, not a copy of it made now")
    follow: bool = _switch("stream the log until the run's end; exit with its outcome")
    cluster_config: str | None = _option(MODES, None, "YAML file of a site's defaults", metavar="FILE")

    @classmethod
    def parsed(cls, arguments: argparse.Namespace) -> Self:
        """Return the options that a parser has read; those that it does not know have their defaults."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(arguments).items()
            if name in ("overrides", *NAMES)
        }
        return cls(**known)

    def for_sbatch(self) -> dict[str, str]:
        """Return what sbatch gets under its own names."""
        named = {option.name: getattr(self, option.name) for option in fields(self) if option.metadata.get("sbatch")}
        return {name: value for name, value in named.items() if value}


OPTIONS = tuple(option for option in fields(JobOptions) if option.name != "overrides")
NAMES = tuple(option.name for option in OPTIONS)
SUPERVISOR = ("procs_per_node", "max_restarts", "max_requeues", "signal_delay")
"""The options that a supervisor takes from its own command line, under the same names."""
LAST_RESORT = ("max_requeues",)


def add_options(parser: argparse.ArgumentParser, names: Iterable[str] = NAMES) -> None:
    """Give a parser ``--config`` and the like: the options of these names, in their groups, and the overrides."""
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="replace a value of the file")
    wanted = [option for option in OPTIONS if option.name in names]
    for title in dict.fromkeys(option.metadata["group"] for option in wanted):
        group = parser.add_argument_group(title)
        for option in wanted:
            if option.metadata["group"] == title:
                default = getattr(JobOptions(), option.name)
                default = list(default) if isinstance(default, tuple) else default  # argparse appends to a copy
                group.add_argument(flag(option.name), default=default, **option.metadata["argparse"])


def flag(name: str) -> str:
    """Return the option of a field: ``--max-requeues`` for ``max_requeues``."""
    return f"--{name.replace('_', '-')}"


def flags(options: JobOptions, names: Iterable[str]) -> list[str]:
    """Return the command line on which a parser of these options reads the same values again."""
    values = {name: getattr(options, name) for name in names}
    return [f"{flag(name)}={value}" for name, value in values.items() if value is not None]
