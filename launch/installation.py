"""Paths that depend on where this code is: in a clone of the repository, or in an installed package."""

import os
import sys
from pathlib import Path

from dist_train.system.program import program

HOME = Path(__file__).resolve().parents[1]
"""The folder that contains the packages ``dist_train`` and ``launch``."""
CLONE_CONFIG = HOME / "configs" / "vit.yaml"
"""The config that a clone submits if the user names none."""
IN_CLONE = CLONE_CONFIG.is_file()


def command(name: str) -> str:
    """Return how this user calls one of the launcher's commands: ``dist-train slurm``, ``python launch/slurm.py``."""
    called = Path(sys.argv[0])
    if called.name == "dist-train" or called.parts[-2:] == ("dist_train", "__main__.py"):
        return program(name)
    if IN_CLONE:
        return f"python launch/{name.replace('-', '_')}.py"
    return "dist-train-slurm" if name == "slurm" else f"dist-train {name}"


def site_file() -> Path:
    """Return the path of the cluster's defaults, which may not exist: in the clone, or in the user's settings folder."""
    if IN_CLONE:
        return HOME / "configs" / "cluster.yaml"
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "dist_train" / "cluster.yaml"


def user_code() -> Path:
    """Return the folder whose modules a config may name: the clone, or without a clone the current folder."""
    return HOME if IN_CLONE else Path.cwd()


def pythonpath(code: Path) -> str:
    """Return PYTHONPATH for a job: ``code`` first, then the user's own."""
    return os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
