"""Losses with one yes-or-no decision for each class: logits [B, K], targets float [B, K], or class labels int64 [B]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dist_train.distributed.group import Dist
from dist_train.learning.loss_functions.targets import power, soft_labels, weighted


def bce(logits_BK: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None) -> Tensor:
    """Return the binary cross-entropy, the mean over samples and classes."""
    return binary_focal(logits_BK, targets, gamma=0.0, label_smoothing=label_smoothing, class_weights=class_weights)


def binary_focal(
    logits_BK: Tensor, targets: Tensor, *, gamma: float, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the binary cross-entropy, each decision counted by (1 - p of what is right) ** gamma."""
    y = soft_labels(logits_BK, targets, label_smoothing)
    loss_BK = F.binary_cross_entropy_with_logits(logits_BK, y, reduction="none")
    if gamma:
        p = logits_BK.sigmoid()
        loss_BK = loss_BK * power(p * (1 - y) + (1 - p) * y, gamma)
    return weighted(loss_BK, class_weights).mean()


def soft_f1(logits_BK: Tensor, targets: Tensor, *, group: Dist) -> Tensor:
    """Return one minus the mean over classes of F1, with probabilities for counts, over the batch of all ranks.

    The counts of all ranks go into every rank's value; the gradient of this rank's share is taken ``world_size``
    fold, for DDP divides by that.
    """
    p = logits_BK.sigmoid() if targets.is_floating_point() else logits_BK.softmax(1)
    y = soft_labels(logits_BK, targets, 0.0)
    mine = torch.stack(((p * y).sum(0), p.sum(0), y.sum(0)))
    if group.world_size > 1:
        mine = group.sum(mine.detach().clone()) + group.world_size * (mine - mine.detach())
    hits, predicted, true = mine
    f1: Tensor = (2 * hits / (predicted + true).clamp_min(1e-6)).mean()
    return 1 - f1
