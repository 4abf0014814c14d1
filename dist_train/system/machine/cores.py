"""The CPU cores that one rank can use, and the ranks that share them."""

import os

from dist_train.system.start import whole_number


def ranks_per_node() -> int:
    """Return the number of ranks on this machine, as torchrun gives it; 1 without torchrun."""
    return max(1, whole_number("LOCAL_WORLD_SIZE", 1))


def cores_per_rank() -> int:
    """Return the number of cores of this process divided by the ranks of this node; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // ranks_per_node())
