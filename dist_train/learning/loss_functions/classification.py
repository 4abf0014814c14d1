"""Losses for one class per image: logits [B, K], labels int64 [B] or soft labels float [B, K]."""

import torch.nn.functional as F
from torch import Tensor

from dist_train.learning.loss_functions.targets import power, soft_labels, weighted


def cross_entropy(
    logits_BK: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the softmax cross-entropy, a scalar: the sum of the weighted losses of all samples, divided by B.

    torch's own mean divides by the sum of the weights, so the contribution of a sample would depend on the other samples
    of its batch. Soft labels come from Mixup, which has already smoothed them.
    """
    smoothing = 0.0 if targets.is_floating_point() else label_smoothing
    if class_weights is None:
        return F.cross_entropy(logits_BK, targets, label_smoothing=smoothing)
    return F.cross_entropy(logits_BK, targets, class_weights, label_smoothing=smoothing, reduction="none").mean()


def focal(
    logits_BK: Tensor, targets: Tensor, *, gamma: float, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the focal loss (Lin et al., 2017) with softmax, a scalar: each class is weighted by (1 - p) ** gamma."""
    log_p = logits_BK.log_softmax(1)
    loss_BK = -soft_labels(logits_BK, targets, label_smoothing) * power(1 - log_p.exp(), gamma) * log_p
    return weighted(loss_BK, class_weights).sum(1).mean()
