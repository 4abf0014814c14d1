"""Training criteria: functions of logits [B, K] and targets to a scalar mean over the micro-batch."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from dist_train.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(cfg: LossConfig) -> Loss:
    """The criterion for hard targets (int64 [B]) and soft ones (float [B, K]) alike.

    Label smoothing is applied to hard targets; soft ones come from Mixup, which has smoothed them already.
    """

    def cross_entropy(logits_BK: Tensor, targets: Tensor) -> Tensor:
        smoothing = 0.0 if targets.is_floating_point() else cfg.label_smoothing
        return F.cross_entropy(logits_BK.float(), targets, label_smoothing=smoothing)

    return {"bce": bce, "mse": mse}.get(cfg.name, cross_entropy)


def bce(logits_BK: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits_BK.float(), targets)


def mse(outputs_BK: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs_BK.float(), targets)
