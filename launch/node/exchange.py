"""Ask SLURM for other nodes in place of those that the preflight has named: which ones, and how often."""

import re

from dist_train.run.folder import RunDir
from dist_train.system.files import read_json
from launch.runs.starts import read_starts

MOST = 3
"""Starts of one job that may ask for other nodes. A cluster whose nodes differ is not searched node by node."""


def nodes(run: RunDir, start: str) -> tuple[str, ...]:
    """Return the nodes that the preflight of a start has named; empty if that start made none."""
    found = read_json(run.preflight, default={})
    named = found.get("named")
    if found.get("start") != start or not isinstance(named, dict):
        return ()
    return tuple(sorted(name for name in named if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)))


def left(run: RunDir, job_id: str) -> int:
    """Return how many more starts of a job may ask for other nodes."""
    asked = [start for start in read_starts(run) if start["job"] == job_id and start.get("excluded")]
    return MOST - len(asked)
