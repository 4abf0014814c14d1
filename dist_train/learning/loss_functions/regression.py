"""Losses of numbers: outputs and targets float [B, T], the mean over all of them."""

import torch.nn.functional as F
from torch import Tensor

from dist_train.learning.loss_functions.targets import same_shape


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(outputs, same_shape("mse", outputs, targets))


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error."""
    return F.l1_loss(outputs, same_shape("l1", outputs, targets))


def huber(outputs: Tensor, targets: Tensor, *, delta: float) -> Tensor:
    """Return Huber's loss: squares up to ``delta``, absolute values beyond."""
    return F.huber_loss(outputs, same_shape("huber", outputs, targets), delta=delta)
