"""The kind of a failure: ours by its class, a lost rank by what torch and gloo say."""

import pytest
import torch

from dist_train.distributed.failure_kind import kind_of
from dist_train.errors import CommError, ConfigError, DataError, NonFiniteError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("x"), "config"),
        (DataError("x"), "data"),
        (CommError("x"), "comm"),
        (NonFiniteError("x"), "nonfinite"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (RuntimeError("[1] Connection closed by peer [127.0.0.1]:1"), "comm"),
        (RuntimeError("NCCL error in: x.cpp"), "comm"),
        (torch.distributed.DistNetworkError("x"), "comm"),
        (RuntimeError("shapes do not match"), "other"),
        (ValueError("Connection closed by peer"), "other"),
    ],
)
def test_kinds(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
