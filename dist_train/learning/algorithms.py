"""Choose torch's algorithms: deterministic or fast. The choice is for the whole process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from dist_train.config.schema import Config

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def set_algorithms(cfg: Config, device: torch.device) -> None:
    """Choose deterministic or fast algorithms. Call this before the first matrix product on a GPU."""
    if cfg.run.deterministic and device.type == "cuda":
        # cuBLAS is deterministic only with a fixed workspace; without this variable torch refuses matrix products.
        os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(cfg.run.deterministic, warn_only=False)
    # Filling new memory with NaN finds programs that read it; ours compute the same without, and a GPU does it at each step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not cfg.run.deterministic


@contextmanager
def restored_algorithms() -> Iterator[None]:
    """Restore torch's deterministic, cuDNN and TF32 settings, and cuBLAS's variable, after the block."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(WORKSPACE)
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with _restored_tf32():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = benchmark
            if workspace is None:
                os.environ.pop(WORKSPACE, None)


@contextmanager
def _restored_tf32() -> Iterator[None]:
    """Restore both the old and the new TF32 settings of torch: it cannot read the old ones after the new ones are set."""
    new_ways = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
    new = [place.fp32_precision for place in new_ways]
    old: dict[Any, bool] = {}
    for place in (torch.backends.cuda.matmul, torch.backends.cudnn):
        with suppress(RuntimeError):
            old[place] = place.allow_tf32
    try:
        yield
    finally:
        for place, allowed in old.items():
            place.allow_tf32 = allowed
        for place, precision in zip(new_ways, new, strict=True):
            place.fp32_precision = precision
