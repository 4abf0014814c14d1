"""Small states and manifests, for tests of checkpoints."""

from typing import Any

import torch

from dist_train.checkpoint.manifest import Manifest


def manifest_of(step: int, evaluated: bool = False) -> Manifest:
    return Manifest(step, evaluated, world_size=2, data_fingerprint="f", config={"optim.lr": 0.1})


def state_of(value: float) -> dict[str, Any]:
    return {
        "model": {"a": torch.full((3, 5), value), "n": torch.tensor(7), "empty": torch.empty(0, 4)},
        "half": torch.full((7,), value, dtype=torch.bfloat16),
        "turned": torch.arange(6.0).view(2, 3).T * value,
        "groups": [{"lr": value, "params": [0, 1]}],
        "none": None,
    }
