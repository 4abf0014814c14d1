"""The CPU cores that one rank can use."""

import os

from dist_train.system.start import whole_number


def cores_per_rank() -> int:
    """Return the number of cores of this process divided by the ranks of this node; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, whole_number("LOCAL_WORLD_SIZE", 1)))
