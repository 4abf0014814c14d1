"""Classify failures. A lost rank shows only in errors of torch and gloo."""

import torch
import torch.distributed as dist

from dist_train.errors import DistTrainError, ErrorKind


def kind_of(error: BaseException) -> ErrorKind:
    """Return the kind of a failure, for ``result.json``. torch and gloo raise many different errors for a lost rank."""
    if isinstance(error, DistTrainError):
        return error.kind
    if isinstance(error, torch.OutOfMemoryError):
        return "oom"
    signs_of_lost_rank = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Timed out waiting",
        "NCCL",
        "gloo",
        "Broken pipe",
        "pair closure",
    )
    if isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs_of_lost_rank)
    ):
        return "comm"
    return "other"
