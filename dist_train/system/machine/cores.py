"""The CPU cores that one rank can use, and the ranks that share them."""

import os

from dist_train.system.start import whole_number

_sharing: list[int] = []
"""One number, the ranks that share the cores of this process, if ``numa`` has bound it; else empty."""


def ranks_per_node() -> int:
    """Return the number of ranks on this machine, as torchrun gives it; 1 without torchrun."""
    return max(1, whole_number("LOCAL_WORLD_SIZE", 1))


def share_with(ranks: int | None) -> None:
    """Count the cores of this process for ``ranks`` ranks from now on; None: for all ranks of this machine."""
    _sharing[:] = [] if ranks is None else [ranks]


def cores_per_rank() -> int:
    """Return the number of cores of this process divided by the ranks that share them; at least 1."""
    ranks = _sharing[0] if _sharing else ranks_per_node()
    return max(1, len(os.sched_getaffinity(0)) // ranks)
