"""A batch of outputs with targets of each kind, and losses built from a config."""

from typing import Any

import numpy as np
import torch
from torch import nn

from dist_train.config.sections.loss import LossConfig
from dist_train.distributed.group import Dist
from dist_train.learning.losses import Loss, build_loss

ALONE = Dist.alone()
CLASSES = ["a", "b", "c"]
COUNTS = np.array([8, 2, 0])
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(8, 3, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
SOFT = torch.rand(8, 3, generator=GENERATOR).softmax(1)
MANY = (torch.rand(8, 3, generator=GENERATOR) > 0.5).float()


def loss_of(**options: Any) -> Loss:
    """Return the loss of a section ``loss`` with ``options``."""
    return build_loss(LossConfig(**options), CLASSES, COUNTS, ALONE, nn.Linear(1, 1))
