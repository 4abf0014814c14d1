"""``config.yaml`` and ``provenance.json``: what a start ran, where, with which code."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from dist_train.config import Config, dump_config
from dist_train.run.folder import RunDir
from dist_train.run.result import now
from dist_train.system.files import atomic_write, read_json, remove_leftovers, write_json


def begin_attempt(run: RunDir, cfg: Config, world_size: int, hosts: list[str]) -> int:
    """Write ``config.yaml`` and add an entry to ``provenance.json``; remove what killed attempts left half written.

    Returns:
        The number of this attempt, from 1.
    """
    for path in (run.last, run.metrics, run.listing, run.bad_images, run.classes):
        remove_leftovers(path)
    for path in (run.config, run.provenance, run.result):
        remove_leftovers(path)
    with atomic_write(run.config) as file:
        file.write(dump_config(cfg).encode())
    attempts = read_json(run.provenance, default={"attempts": []})["attempts"]
    attempts.append({"attempt": len(attempts) + 1, **_provenance(world_size, hosts)})
    write_json(run.provenance, {"attempts": attempts})
    return len(attempts)


def _provenance(world_size: int, hosts: list[str]) -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "numpy", "pillow", "pydantic")
    return {
        "started": now(),
        "command": [sys.executable, *sys.orig_argv[1:]],
        "directory": os.getcwd(),
        "hosts": hosts,
        "world_size": world_size,
        "git": _git_state(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "slurm": {key: value for key, value in os.environ.items() if key in _SLURM_KEYS},
    }


_SLURM_KEYS = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NAME",
)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the code that runs (not of the working directory); None outside a checkout."""
    code = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(
            ("git", "-C", code, *args), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
