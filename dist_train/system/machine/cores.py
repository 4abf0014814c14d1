"""The CPU cores that one rank can use, and the ranks that share them."""

import math
import os
import sys

from dist_train.system.machine.limits import cpu_limit
from dist_train.system.start import whole_number

_sharing: list[int] = []
"""One number, the ranks that share the cores of this process, if ``numa`` has bound it; else empty."""


def ranks_per_node() -> int:
    """Return the number of ranks on this machine, as torchrun gives it; 1 without torchrun."""
    return max(1, whole_number("LOCAL_WORLD_SIZE", 1))


def share_with(ranks: int | None) -> None:
    """Count the cores of this process for ``ranks`` ranks from now on; None: for all ranks of this machine."""
    _sharing[:] = [] if ranks is None else [ranks]


def usable_cores() -> int:
    """Return the number of cores that this process may use: those it may run on, or fewer where its cgroup limits CPU time."""
    return min(len(os.sched_getaffinity(0)), _cores_of_quota())


def cores_per_rank() -> int:
    """Return the number of cores of this process divided by the ranks that share them; at least 1."""
    ranks = _sharing[0] if _sharing else ranks_per_node()
    # All ranks of a container share its quota, however ``numa`` divides the cores.
    return max(1, min(len(os.sched_getaffinity(0)) // ranks, _cores_of_quota() // ranks_per_node()))


def _cores_of_quota() -> int:
    """Return the cores that the cgroup's CPU time is worth: 2 for 1.5 cores, as other programs count."""
    limit = cpu_limit()
    return sys.maxsize if math.isinf(limit) else max(1, math.ceil(limit))
