"""What kind of failure an error is. Only errors of torch and gloo tell that another rank is gone."""

import torch
import torch.distributed as dist

from dist_train.errors import DistTrainError, ErrorKind


def kind_of(error: BaseException) -> ErrorKind:
    """The kind of a failure, for ``result.json``. A lost rank shows as an error of torch's or gloo's."""
    if isinstance(error, DistTrainError):
        return error.kind
    if isinstance(error, torch.OutOfMemoryError):
        return "oom"
    lost = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Timed out waiting",
        "NCCL",
        "gloo",
        "Broken pipe",
        "pair closure",
    )
    if isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in lost)
    ):
        return "comm"
    return "other"
