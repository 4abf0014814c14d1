"""The launcher's command line, and a site's defaults for it from a YAML file."""

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dist_train.config.types import seconds_of
from dist_train.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
SITE_FILE = ROOT / "configs" / "cluster.yaml"

EPILOG = """\
examples:
  python launch/slurm.py --nodes 2                                   configs/vit.yaml on two nodes
  python launch/slurm.py --nodes 2 --gpus-per-node 8 --time 4:00:00 --config my.yaml optim.lr=3e-4 --follow
  python launch/slurm.py --nodes 2 --dry-run                         print the job, submit nothing
  python launch/slurm.py --cluster local --procs-per-node 2          the same on this machine
  python launch/slurm.py --sweep optim.lr=1e-4,3e-4 --sweep run.seed=0,1 --max-parallel 2
  python launch/slurm.py status [FOLDER]                             how the runs in it stand

A YAML file with the same names (nodes: 2, gpus_per_node: 8, setup: [module load cuda]) holds a site's
defaults: --cluster-config FILE, or configs/cluster.yaml. The command line wins.
"""


def parser() -> argparse.ArgumentParser:
    """All options; the dry run, the local run and real jobs take the same."""
    p = argparse.ArgumentParser(
        prog="python launch/slurm.py",
        description="Put a run, or a sweep of runs, on a SLURM cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--config", default="configs/vit.yaml", metavar="FILE", help="the run's YAML file (%(default)s)")
    p.add_argument("overrides", nargs="*", metavar="key.path=value", help="replace a value of the file")
    _add_resources(p.add_argument_group("resources"))
    _add_behaviour(p.add_argument_group("signals, restarts, environment"))
    sweep = p.add_argument_group("sweeps: one array, one run folder for each combination")
    sweep.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=V1,V2|FILE", help="a key's values, or a YAML file"
    )
    sweep.add_argument(
        "--max-parallel", type=_positive, default=256, metavar="N", help="array tasks at a time (%(default)s)"
    )
    modes = p.add_argument_group("modes")
    modes.add_argument(
        "--cluster",
        choices=("slurm", "local"),
        default="slurm",
        help="local: on this machine, no SLURM, nor --setup and --python",
    )
    modes.add_argument("--dry-run", action="store_true", help="print script, command and plan; submit nothing")
    modes.add_argument(
        "--no-check", action="store_true", help="look at no data, weights or model here: skip `dist_train --check`"
    )
    modes.add_argument("--no-snapshot", action="store_true", help="run the working copy, not a copy of it made now")
    modes.add_argument(
        "--follow", action="store_true", help="stream the log until the run's end; exit with its outcome"
    )
    modes.add_argument("--cluster-config", metavar="FILE", help="a site's defaults (configs/cluster.yaml)")
    return p


def _add_resources(group: Any) -> None:
    group.add_argument("--nodes", type=_positive, default=1, metavar="N", help="(%(default)s)")
    group.add_argument("--gpus-per-node", type=_natural, metavar="G", help="(all that a node of the partition has)")
    group.add_argument("--procs-per-node", type=_positive, metavar="P", help="workers (one a GPU, or one without GPUs)")
    group.add_argument("--cpus-per-gpu", type=_positive, default=8, metavar="C", help="CPUs a worker (%(default)s)")
    group.add_argument("--mem", type=_memory, metavar="SIZE", help="of a node, such as 64G (the partition's default)")
    group.add_argument("--time", type=_walltime, default="24:00:00", help="walltime of one start (%(default)s)")
    for name in ("partition", "account", "qos", "constraint", "exclude"):
        # submitit hides SBATCH_ variables, which would also overrule what is asked for here.
        variable = f"SBATCH_{name.upper()}"
        group.add_argument(f"--{name}", default=os.environ.get(variable), help=f"sbatch --{name} (or {variable})")
    group.add_argument(
        "--sbatch",
        action="append",
        default=[],
        type=_sbatch_option,
        metavar="KEY[=VALUE]",
        help="any other sbatch option, such as exclusive or licenses=scratch:1",
    )


def _add_behaviour(group: Any) -> None:
    group.add_argument(
        "--signal-delay",
        type=_positive,
        default=120,
        metavar="S",
        help="stop S seconds before the walltime: a save and 30 s (%(default)s)",
    )
    group.add_argument(
        "--max-requeues", type=_natural, default=50, metavar="R", help="starts after the first (%(default)s)"
    )
    group.add_argument(
        "--max-restarts",
        type=_natural,
        default=2,
        metavar="R",
        help="restarts of crashed workers in one start (%(default)s)",
    )
    group.add_argument("--env", action="append", default=[], type=_pair, metavar="K=V", help="environment of the job")
    group.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="COMMAND",
        help="shell line before the run, such as 'module load cuda'",
    )
    group.add_argument(
        "--python", default=shlex.quote(sys.executable), metavar="COMMAND", help="interpreter on the nodes (this one)"
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Command line over site file over defaults.

    Raises:
        ConfigError: the site file is wrong. (A wrong command line exits with 2, as argparse does.)
    """
    found = parser()
    named = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    named.add_argument("--cluster-config")
    site = named.parse_known_args(argv)[0].cluster_config
    path = Path(site) if site else SITE_FILE
    defaults = _site_arguments(path, found) if site or path.exists() else []
    return found.parse_intermixed_args([*defaults, *argv])


def _site_arguments(path: Path, found: argparse.ArgumentParser) -> list[str]:
    """A site file as the command line that it stands for, so that both are read by the same rules."""
    try:
        # All values as they are written: YAML would read 4:00:00 as the number 14400.
        tree = yaml.load(path.read_text(), Loader=yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read --cluster-config {path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"--cluster-config {path} must hold options such as `nodes: 2`, not {tree!r}")
    known = [action.dest for action in found._actions if action.option_strings and action.dest != "help"]
    arguments = []
    for key, value in tree.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ConfigError(
                f"{path}: `{key}` is no option; {f'did you mean `{near[0]}`?' if near else ', '.join(known)}"
            )
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, dict):
            arguments += [f"{flag}={k}={v}" for k, v in value.items()]
        elif isinstance(value, list):
            arguments += [f"{flag}={item}" for item in value]
        elif value in ("true", "false"):
            arguments += [flag] if value == "true" else []
        elif value not in ("", "null", "~"):
            arguments.append(f"{flag}={value}")
    return arguments


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def _memory(text: str) -> str:
    if not re.fullmatch(r"\d+[KMGT]?B?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no memory size; write 64G or 64000M")
    return text.removesuffix("B")


def _walltime(text: str) -> str:
    try:
        seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY=VALUE")
    return key, value


def _sbatch_option(text: str) -> tuple[str, str | bool]:
    """``gres=gpu:8``; ``exclusive``, ``exclusive=`` or, as a site's file has it, ``exclusive=true`` for one without a value."""
    key, _, value = text.removeprefix("--").partition("=")
    if not key:
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY=VALUE, or KEY")
    return key, True if value in ("", "true") else value


def last_line(text: str) -> str:
    """The last line that says something: of a traceback, the error."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()


def environment_pythonpath(code: Path) -> str:
    """PYTHONPATH for the job: the code first, then what the user had."""
    return os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
