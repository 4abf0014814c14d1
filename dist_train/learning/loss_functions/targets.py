"""Helpers of the losses: targets as float tensors of the outputs' shape, class weights, powers."""

import torch.nn.functional as F
from torch import Tensor

from dist_train.errors import ConfigError


def soft_labels(logits_BK: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Return targets as float [B, K]: class labels become one-hot with label smoothing, others stay unchanged."""
    if targets.is_floating_point():
        return same_shape("", logits_BK, targets)
    classes = logits_BK.shape[1]
    return F.one_hot(targets, classes).to(logits_BK.dtype) * (1 - smoothing) + smoothing / classes


def same_shape(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return ``targets`` with the dtype of ``outputs``.

    Args:
        name: the name of the loss, for messages.

    Raises:
        ConfigError: targets are class labels, or have another shape than outputs, which torch would broadcast.
    """
    if not targets.is_floating_point() or targets.shape != outputs.shape:
        kind = "class labels" if not targets.is_floating_point() else f"targets of shape {tuple(targets.shape)}"
        raise ConfigError(
            f"`loss.name` ({name}) needs one number for each output, {tuple(outputs.shape)}, but the data has {kind}; "
            "use cross_entropy for classes, or a data set with targets"
        )
    return targets.to(outputs.dtype)


def power(wrong_BK: Tensor, gamma: float | Tensor) -> Tensor:
    """Return ``wrong_BK ** gamma``, the weight in the focal losses."""
    # For gamma < 1 the gradient of the power at 0 is infinite.
    return wrong_BK.clamp_min(1e-8) ** gamma


def weighted(loss_BK: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the loss of each class times its weight."""
    return loss_BK if class_weights is None else loss_BK * class_weights
