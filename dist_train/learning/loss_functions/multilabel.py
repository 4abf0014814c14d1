"""Losses with one binary decision per class: logits [B, K], targets float [B, K], or class labels int64 [B]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dist_train.distributed.group import Dist
from dist_train.learning.loss_functions.targets import power, soft_labels, weighted


def bce(
    logits_BK: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float,
    class_weights: Tensor | None,
    target_threshold: float | None = None,
    sum_classes: bool = False,
    pos_weight: float = 1.0,
) -> Tensor:
    """Return the binary cross-entropy, a scalar: the mean over samples and classes.

    The options are those of timm's ``BinaryCrossEntropy``, for the recipes of "ResNet strikes back" (Wightman et al., 2021).

    Args:
        target_threshold: targets above it become 1, others 0; for mixed images.
        sum_classes: sum over classes, then take the mean over samples.
        pos_weight: factor of the positive term.
    """
    y = soft_labels(logits_BK, targets, label_smoothing)
    if target_threshold is not None:
        y = y.gt(target_threshold).to(y.dtype)
    positive = None if pos_weight == 1 else logits_BK.new_tensor(pos_weight)
    loss_BK = weighted(
        F.binary_cross_entropy_with_logits(logits_BK, y, pos_weight=positive, reduction="none"), class_weights
    )
    return loss_BK.sum(1).mean() if sum_classes else loss_BK.mean()


def asymmetric(
    logits_BK: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
) -> Tensor:
    """Return the asymmetric loss (Ridnik et al., 2021), a scalar: summed over classes, the mean over samples.

    The defaults are those of timm's ``AsymmetricLossMultiLabel``.

    Args:
        gamma_pos, gamma_neg: focusing parameters of labels that are there, and of those that are not.
        clip: a negative whose probability is below it has no loss.
    """
    y = soft_labels(logits_BK, targets, 0.0)
    p = logits_BK.sigmoid()
    q = (1 - p + clip).clamp(max=1)
    right = p * y + q * (1 - y)
    focus = power(1 - right, gamma_pos * y + gamma_neg * (1 - y))
    loss_BK = -focus * (y * p.clamp_min(1e-8).log() + (1 - y) * q.clamp_min(1e-8).log())
    return weighted(loss_BK, class_weights).sum(1).mean()


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
