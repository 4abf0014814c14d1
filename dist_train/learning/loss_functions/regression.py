"""Losses for regression: outputs and targets float [B, T]; the result is the mean over all B * T numbers, a scalar."""

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
    """Return the Huber loss: quadratic for errors up to ``delta``, linear above."""
    return F.huber_loss(outputs, same_shape("huber", outputs, targets), delta=delta)
