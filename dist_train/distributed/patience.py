"""Who limits how long a collective waits for a rank: the collective itself, or the watchdog.

gloo counts the time in which its process is suspended (``scontrol suspend``, gang scheduling): after a suspension that is
longer than its timeout, every rank that waited for another one would give up at once. The watchdog does not count that time.
"""

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from dist_train.distributed.group import Dist

LONGEST_SUSPENSION_S = 86400.0
"""If the watchdog does not end a rank, gloo does so after this time."""

_set_timeout: Callable[..., Any] = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
"""Public since torch 2.14."""


def set_patience(group: "Dist", watched: bool) -> None:
    """Set the timeout of later collectives of a group on the CPU. With GPUs they keep their own: NCCL needs one.

    Args:
        watched: the watchdog ends this rank if it waits for too long.
    """
    if group.control is None:
        return
    timeout = datetime.timedelta(seconds=group.timeout_s + (LONGEST_SUSPENSION_S if watched else 0))
    _set_timeout(timeout, group.control)
    _set_timeout(timeout, dist.group.WORLD)
