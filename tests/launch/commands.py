"""Call the launcher as a user does."""

import functools
import os
import subprocess
from pathlib import Path

from launch import slurm
from tests.support.commands import call

ROOT = Path(__file__).resolve().parents[2]


def launch(*args: str, path: str | None = None, pythonpath: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Call it in the root of the repository; ``path`` and ``pythonpath`` replace PATH and PYTHONPATH."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "PYTHONPATH"))}
    env |= ({"PATH": path} if path else {}) | ({"PYTHONPATH": pythonpath} if pythonpath else {})
    return subprocess.CompletedProcess(args, *call(functools.partial(_main, env), *args))


def _main(env: dict[str, str], args: list[str]) -> int:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    return slurm.main(args)


def dry_run(config: Path, *args: str) -> str:
    """Return what ``--dry-run`` prints."""
    done = launch(f"--config={config}", "--dry-run", "--no-check", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout
