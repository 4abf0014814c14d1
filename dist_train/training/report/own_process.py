"""Run a command of ours in a process of its own: what it draws or writes must not disturb the run."""

import os
import subprocess
import sys

from dist_train.system.processes import die_with_parent

MOST_S = 120.0
"""The longest time that a run waits for the command; the page and the picture take about 5 s."""


def failure_of(words: list[str], timeout_s: float) -> str:
    """Run a command without a GPU. Return why it failed; an empty text if it did not.

    Args:
        words: its name and arguments.
        timeout_s: `distributed.timeout_s`: half of it may pass, since other ranks may wait.
    """
    limit_s = min(MOST_S, timeout_s / 2)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dist_train", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            preexec_fn=die_with_parent,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""},
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {limit_s:g} s"
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())[-500:] or f"exit code {done.returncode}"
