"""Losses with one binary decision per class: logits [B, K], targets float [B, K], or class labels int64 [B]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dist_train.distributed.group import Dist
from dist_train.learning.loss_functions.targets import power, soft_labels, weighted


def bce(logits_BK: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None) -> Tensor:
    """Return the binary cross-entropy, a scalar: the mean over samples and classes."""
    return binary_focal(logits_BK, targets, gamma=0.0, label_smoothing=label_smoothing, class_weights=class_weights)


def binary_focal(
    logits_BK: Tensor, targets: Tensor, *, gamma: float, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the binary focal loss (Lin et al., 2017), a scalar: each decision is weighted by (1 - p) ** gamma.

    p is the predicted probability of the correct answer.
    """
    y = soft_labels(logits_BK, targets, label_smoothing)
    loss_BK = F.binary_cross_entropy_with_logits(logits_BK, y, reduction="none")
    if gamma:
        p = logits_BK.sigmoid()
        loss_BK = loss_BK * power(p * (1 - y) + (1 - p) * y, gamma)
    return weighted(loss_BK, class_weights).mean()


def soft_f1(logits_BK: Tensor, targets: Tensor, *, group: Dist) -> Tensor:
    """Return 1 - F1, a scalar: F1 is computed from probabilities instead of counts, and averaged over classes.

    Every rank computes the value for the images of all ranks. The gradient of this rank's part is multiplied by
    ``world_size``, because DDP divides by it.
    """
    p = logits_BK.sigmoid() if targets.is_floating_point() else logits_BK.softmax(1)
    y = soft_labels(logits_BK, targets, 0.0)
    mine = torch.stack(((p * y).sum(0), p.sum(0), y.sum(0)))
    if group.world_size > 1:
        mine = group.sum(mine.detach().clone()) + group.world_size * (mine - mine.detach())
    hits, predicted, true = mine
    f1: Tensor = (2 * hits / (predicted + true).clamp_min(1e-6)).mean()
    return 1 - f1
