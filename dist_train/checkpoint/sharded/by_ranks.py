"""Saves in which every rank writes its share: what the training processes agree on before their writers start."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.sharded.share import Share
from dist_train.checkpoint.store import Checkpoints, ExtraFiles

if TYPE_CHECKING:
    from dist_train.distributed.group import Dist


def on_writers(group: "Dist", shared: bool, work: Callable[[], None]) -> None:
    """Call ``work`` on rank 0, or on every rank if each saves its share. Every rank must call it.

    Raises:
        DistTrainError: ``work`` raised it on a rank. All ranks raise it.
    """
    if not shared:
        group.from_main(work)
        return
    with group.together():
        work()


def save_shares(
    checkpoints: Checkpoints,
    group: "Dist",
    state: dict[str, Any],
    manifest: Manifest,
    extra_files: ExtraFiles | None,
    limit_s: float,
    late: Callable[[str], bool],
) -> None:
    """Start to save a state of which each rank has some rows (``Piece``). Every rank must call it.

    Args:
        late: as ``Checkpoints.save`` takes it.
        limit_s: how long rank 0's writer waits for another rank's writer that writes nothing, in seconds.

    Raises:
        SaveError: the previous write failed, on any rank.
    """
    # Rank 0 now waits for the previous write, and so for the files of all ranks: their writers must have their jobs.
    checkpoints.settle()
    token = group.from_main(partial(checkpoints.ticket, manifest))
    share = Share(group.rank, group.world_size, token, limit_s)
    with group.together():
        if token or group.is_main:
            checkpoints.save(state, manifest, extra_files, share, late)
