"""The launcher's command line, and a site's defaults for it from a YAML file."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml

from dist_train.errors import ConfigError
from launch.installation import IN_CLONE, command, site_file
from launch.job_options import NAMES, JobOptions, add_options, flag

EPILOG = """\
examples:
  {slurm} --nodes 2 --gpus-per-node 8 --time 4:00:00 --config my.yaml optim.lr=3e-4 --follow
  {slurm} --config my.yaml --dry-run                       print the job, submit nothing
  {slurm} --config my.yaml --cluster local --procs-per-node 2    the same on this machine
  {slurm} --config my.yaml --sweep optim.lr=1e-4,3e-4 --sweep run.seed=0,1 --max-parallel 2
  {slurm} status [FOLDER]                                  how the runs in it stand
{clone}
A YAML file with the same names (nodes: 2, gpus_per_node: 8, setup: [module load cuda]) holds a site's
defaults: --cluster-config FILE, or {site}. The command line wins.
"""
CLONE_EXAMPLE = """\
  {slurm} --nodes 2                                        configs/vit.yaml on two nodes
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all options; the dry run, the local run and real jobs take the same."""
    slurm = command("slurm")
    clone = CLONE_EXAMPLE.format(slurm=slurm) if IN_CLONE else ""
    site = "configs/cluster.yaml" if IN_CLONE else site_file()
    made = argparse.ArgumentParser(
        prog=slurm,
        description="Put a run, or a sweep of runs, on a SLURM cluster.",
        epilog=EPILOG.format(slurm=slurm, clone=clone, site=site),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(made)
    return made


def parse(argv: Sequence[str]) -> JobOptions:
    """Return the options: the command line wins over the site's file, and that over the defaults.

    Raises:
        ConfigError: the site's file is wrong. (A wrong command line exits with 2, as argparse does.)
    """
    named = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    named.add_argument("--cluster-config")
    site = named.parse_known_args(argv)[0].cluster_config
    path = Path(site) if site else site_file()
    defaults = _site_arguments(path) if site or path.exists() else []
    return JobOptions.parsed(parser().parse_intermixed_args([*defaults, *argv]))


def _site_arguments(path: Path) -> list[str]:
    """Return the command line that a site's file stands for, so that both are read by the same rules."""
    try:
        # All values as they are written: YAML would read 4:00:00 as the number 14400.
        tree = yaml.load(path.read_text(), Loader=yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read --cluster-config {path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"--cluster-config {path} must hold options such as `nodes: 2`, not {tree!r}")
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
    """Return the last line that says something: of a traceback, the error."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
