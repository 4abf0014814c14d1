"""Call the launcher as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def launch(*args: str, path: str | None = None, pythonpath: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the script from the root of the repository; ``path`` and ``pythonpath`` replace PATH and PYTHONPATH."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "PYTHONPATH"))}
    env |= ({"PATH": path} if path else {}) | ({"PYTHONPATH": pythonpath} if pythonpath else {})
    command = [sys.executable, "launch/slurm.py", *args]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def dry_run(config: Path, *args: str) -> str:
    """Return what ``--dry-run`` prints."""
    done = launch(f"--config={config}", "--dry-run", "--no-check", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout
