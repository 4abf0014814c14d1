"""A few steps of arithmetic without our code: does this machine compute the same as another one?"""

import hashlib
from typing import Any

import numpy as np
import PIL
import timm
import torch
from torch import nn
from torch.nn import functional as F


def probe() -> dict[str, Any]:
    """Train a tiny network on seeded data.

    Returns:
        ``sha256`` of the weights, and the versions that decide how images are read and what torch computes.
    """
    digest = hashlib.sha256()
    for optimizer in (_adamw, _sgd):
        for half in (False, True):
            for value in _weights(optimizer, half):
                digest.update(value.detach().contiguous().numpy().tobytes())
    return {
        "sha256": digest.hexdigest(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def _adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, fused=True)


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, fused=True)


def _weights(make_optimizer: Any, half: bool) -> list[torch.Tensor]:
    """The state after five steps; ``half`` is with autocast to float16. The random state of the caller stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 24, 1, bias=False),
            nn.BatchNorm2d(24),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
        images, labels = torch.randn(8, 3, 24, 24), torch.randint(0, 3, (8,))
    optimizer = make_optimizer(module.parameters())
    for _ in range(5):
        with torch.autocast("cpu", torch.float16, enabled=half):
            logits = module(images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return list(module.state_dict().values())
