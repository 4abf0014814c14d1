"""Parts of a run that wait for ever at one place; each notes that it waits."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

NOTE = "TEST_WAITS"
"""Environment variable: the file that is written when a part begins to wait."""


def wait() -> None:
    """Wait for ever; do not wait at all where nobody asked for it."""
    if NOTE not in os.environ:
        return
    Path(os.environ[NOTE]).touch()
    while True:
        time.sleep(60)


class Transform:
    """Waits at the ``at``-th image of a process."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, image: Any, _: Any) -> Any:
        self.at -= 1
        if self.at == 0:
            wait()
        return image


class Objective(nn.Module):
    """Cross-entropy that waits on rank 1 before its ``at``-th batch, so that rank 0 waits in a collective."""

    def __init__(self, model: nn.Module, at: int) -> None:
        super().__init__()
        self.model, self.at = model, at

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        self.at -= 1
        if self.at == 0 and os.environ.get("RANK") == "1":
            wait()
        return {"loss": F.cross_entropy(self.model(images).float(), targets)}


class Images:
    """Small images of two classes; ``wait_at`` waits when it is read."""

    def __init__(self, wait_at: int) -> None:
        self.targets, self.classes, self.wait_at = [0, 1] * 12, ["a", "b"], wait_at

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == self.wait_at:
            wait()
        return np.full((32, 32, 3), index, np.uint8), self.targets[index]


def scanned(_root: str, split: str) -> Images:
    """Wait while the data set is opened."""
    wait()
    return Images(-1)


def cached(_root: str, split: str) -> Images:
    """Wait when the cache of decoded images is built; nothing before it reads this image."""
    return Images(17 if split == "train" else -1)
