"""The launcher's command line, and the cluster's defaults for it in a YAML file."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml

from dist_train.config.yaml_text import TooLarge, load_yaml
from dist_train.errors import ConfigError
from dist_train.system.program import Parser
from launch.installation import IN_CLONE, command, site_file
from launch.jobs.job_options import NAMES, JobOptions, add_options, flag

EPILOG = """\
examples:
  {slurm} --config my.yaml --dry-run          print the job, submit nothing
  {slurm} --config my.yaml --cluster local    run it on this machine
  {slurm} --config my.yaml --nodes 2 --gpus-per-node 8 --time 4:00:00 --follow
  {slurm} --config my.yaml --sweep optim.lr=1e-4,3e-4 --sweep run.seed=0,1
  {slurm} --config my.yaml --sweep optim.lr=1e-4,3e-4,1e-3 --halving factor=3
  {slurm} --config my.yaml --sweep 'optim.lr=log(1e-5,1e-2)' --draw halton:16
  {slurm} --config my.yaml --container torch.sif
  {slurm} status [FOLDER]                     list the runs in a folder
{clone}
A YAML file with the same names (nodes: 2, gpus_per_node: 8, setup: [module load cuda]) sets the
defaults of a cluster: --cluster-config FILE, or else {site} if it exists.
An option on the command line overrides it.
"""
CLONE_EXAMPLE = """\
  {slurm} --nodes 2                           run configs/vit.yaml on two nodes
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    slurm = command("slurm")
    clone = CLONE_EXAMPLE.format(slurm=slurm) if IN_CLONE else ""
    site = "configs/cluster.yaml" if IN_CLONE else site_file()
    made = Parser(
        prog=slurm,
        description="Submit a run, or a sweep of runs, to a SLURM cluster.",
        epilog=EPILOG.format(slurm=slurm, clone=clone, site=site),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(made)
    return made


def parse(argv: Sequence[str]) -> JobOptions:
    """Return the options: first from the command line, then from the cluster's file, then the defaults.

    Raises:
        ConfigError: the cluster's file is wrong. (For a wrong command line argparse exits with 2.)
    """
    named = Parser(add_help=False, allow_abbrev=False)
    named.add_argument("--cluster-config")
    site = named.parse_known_args(argv)[0].cluster_config
    path = Path(site) if site else site_file()
    defaults = _site_arguments(path) if site or path.exists() else []
    made = parser()
    given = made.parse_intermixed_args([*defaults, *argv])
    for name, value in vars(given).items():
        if name != "overrides" and "" in (value if isinstance(value, list | tuple) else [value]):
            made.error(f"{flag(name)} has an empty value (an empty shell variable?); leave it out for the default")
    return JobOptions.parsed(given)


def _site_arguments(path: Path) -> list[str]:
    """Return the cluster's file as a command line, so that one parser reads both."""
    try:
        # BaseLoader keeps every value as text: YAML would read 4:00:00 as the number 14400.
        tree = load_yaml(path.read_text(), yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TooLarge) as error:
        raise ConfigError(f"cannot read --cluster-config {path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"--cluster-config {path} must contain options such as `nodes: 2`, not {tree!r}")
    return [argument for key, value in tree.items() for argument in _arguments(path, str(key), value)]


def _arguments(path: Path, key: str, value: object) -> list[str]:
    if key not in NAMES:
        near = difflib.get_close_matches(key, NAMES, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"use one of: {', '.join(NAMES)}"
        raise ConfigError(f"{path}: `{key}` is not an option; {hint}")
    if isinstance(value, dict):
        return [f"{flag(key)}={name}={item}" for name, item in value.items()]
    if isinstance(value, list):
        return [f"{flag(key)}={item}" for item in value]
    if value in ("true", "false"):
        return [flag(key)] if value == "true" else []
    return [] if value in ("", "null", "~") else [f"{flag(key)}={value}"]


def last_line(text: str) -> str:
    """Return the last line that is not empty: the error of a traceback."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
