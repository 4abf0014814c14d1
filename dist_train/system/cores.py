"""The CPU cores that a rank can have for itself."""

import os


def cores_per_rank() -> int:
    """Return the cores that this process may use, shared among the ranks of this node; at least one."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
