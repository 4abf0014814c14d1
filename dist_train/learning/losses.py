"""Training criteria: outputs [B, K] and targets to a scalar, the mean over the micro-batch.

Targets are class labels (int64 [B]), soft or several labels (float [B, K]), or regression targets (float [B, T]).
The mean over equal micro-batches and ranks is the mean over the global batch; soft F1 is a ratio over the whole
batch instead, and sums its parts over ranks.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dist_train.config.sections.loss import LossConfig
from dist_train.config.user_code import load_callable
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError

Loss = Callable[[Any, Tensor], Tensor]
"""A model's outputs (auxiliary ones as a tuple behind the main ones) and targets, to a scalar."""

Criterion = Callable[[Tensor, Tensor], Tensor]

WEIGHTED = ("cross_entropy", "bce", "focal", "binary_focal")
"""Losses that ``label_smoothing`` and ``class_weights`` apply to."""


def build_loss(
    cfg: LossConfig, classes: list[str], group: Dist, module: nn.Module, given: Criterion | None = None
) -> Loss:
    """The criterion, with auxiliary heads and the L1 penalty on what trains in ``module``.

    Args:
        given: a criterion given in code, in place of `loss.name`.

    Raises:
        ConfigError: an option does not apply to this loss, or names no class, or the user's own cannot be built.
    """
    criterion = _criterion(cfg, classes, group) if given is None else _checked("the loss given", given, group.device)

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        total = criterion(main.float(), targets)
        for output in auxiliary:
            if output is not None:
                total = total + cfg.aux_weight * criterion(output.float(), targets)
        return total + cfg.l1 * l1_norm(module) if cfg.l1 else total

    return loss


def l1_norm(module: nn.Module) -> Tensor:
    """Sum of the absolute values of all parameters that train."""
    return torch.stack([p.abs().sum() for p in module.parameters() if p.requires_grad]).sum()


def _criterion(cfg: LossConfig, classes: list[str], group: Dist) -> Criterion:
    for key, given in (("label_smoothing", cfg.label_smoothing), ("class_weights", cfg.class_weights)):
        if given and cfg.name not in WEIGHTED:
            raise ConfigError(f"`loss.{key}` ({given}) is for {', '.join(WEIGHTED)}, and `loss.name` is {cfg.name}")
    if cfg.options and ":" not in cfg.name:
        raise ConfigError(f"`loss.options` ({cfg.options}) are for a loss of your own, and `loss.name` is {cfg.name}")
    weights = _class_weights(cfg, classes, group.device)
    smooth = cfg.label_smoothing
    match cfg.name:
        case "cross_entropy":
            return lambda x, y: cross_entropy(x, y, weights, smooth)
        case "focal":
            return lambda x, y: focal(x, y, cfg.gamma, weights, smooth)
        case "bce":
            return lambda x, y: binary(x, y, 0.0, weights, smooth)
        case "binary_focal":
            return lambda x, y: binary(x, y, cfg.gamma, weights, smooth)
        case "soft_f1":
            return lambda x, y: soft_f1(x, y, group)
        case "mse":
            return lambda x, y: F.mse_loss(x, same_shape(cfg.name, x, y))
        case "l1":
            return lambda x, y: F.l1_loss(x, same_shape(cfg.name, x, y))
        case "huber":
            return lambda x, y: F.huber_loss(x, same_shape(cfg.name, x, y), delta=cfg.delta)
        case _:
            return _own(cfg, group.device)


def cross_entropy(logits_BK: Tensor, targets: Tensor, weights_K: Tensor | None, smoothing: float) -> Tensor:
    """Softmax cross-entropy of class labels or soft ones; the plain mean of the weighted samples.

    torch's own mean divides by the sum of weights, so that a weight of 10 on one class would change the loss of a
    batch without that class. Soft labels come from Mixup, which has smoothed them already.
    """
    smoothing = 0.0 if targets.is_floating_point() else smoothing
    if weights_K is None:
        return F.cross_entropy(logits_BK, targets, label_smoothing=smoothing)
    return F.cross_entropy(logits_BK, targets, weights_K, label_smoothing=smoothing, reduction="none").mean()


def focal(logits_BK: Tensor, targets: Tensor, gamma: float, weights_K: Tensor | None, smoothing: float) -> Tensor:
    """Focal loss (Lin et al., 2017) over a softmax: what is already right, p near 1, counts by (1 - p) ** gamma."""
    log_p = logits_BK.log_softmax(1)
    loss_BK = -soft_labels(logits_BK, targets, smoothing) * _power(1 - log_p.exp(), gamma) * log_p
    return _weighted(loss_BK, weights_K).sum(1).mean()


def binary(logits_BK: Tensor, targets: Tensor, gamma: float, weights_K: Tensor | None, smoothing: float) -> Tensor:
    """One yes-or-no decision for each class, focal with gamma > 0; the mean over samples and classes."""
    y = soft_labels(logits_BK, targets, smoothing)
    loss_BK = F.binary_cross_entropy_with_logits(logits_BK, y, reduction="none")
    if gamma:
        p = logits_BK.sigmoid()
        loss_BK = loss_BK * _power(p * (1 - y) + (1 - p) * y, gamma)
    return _weighted(loss_BK, weights_K).mean()


def _power(wrong_BK: Tensor, gamma: float) -> Tensor:
    """``wrong_BK ** gamma``; 0 counts as next to nothing, for below 1 the power's slope there is infinite."""
    return wrong_BK.clamp_min(1e-8) ** gamma


def soft_f1(logits_BK: Tensor, targets: Tensor, group: Dist) -> Tensor:
    """One minus the mean over classes of F1, with probabilities for counts, over the batch of all ranks.

    The counts of all ranks go into every rank's value; the gradient of this rank's share is taken ``world_size``
    fold, for DDP divides by that.
    """
    single = not targets.is_floating_point()
    p = logits_BK.softmax(1) if single else logits_BK.sigmoid()
    y = soft_labels(logits_BK, targets, 0.0)
    mine = torch.stack(((p * y).sum(0), p.sum(0), y.sum(0)))
    if group.world_size > 1:
        mine = group.sum(mine.detach().clone()) + group.world_size * (mine - mine.detach())
    hits, predicted, true = mine
    f1: Tensor = (2 * hits / (predicted + true).clamp_min(1e-6)).mean()
    return 1 - f1


def soft_labels(logits_BK: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Targets as float [B, K]: class labels become one-hot and smoothed, others are taken as they are."""
    if targets.is_floating_point():
        return same_shape("", logits_BK, targets)
    classes = logits_BK.shape[1]
    return F.one_hot(targets, classes).to(logits_BK.dtype) * (1 - smoothing) + smoothing / classes


def same_shape(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """``targets``, as float.

    Raises:
        ConfigError: they are class labels, or of another shape; torch would stretch them to fit.
    """
    if not targets.is_floating_point() or targets.shape != outputs.shape:
        kind = "class labels" if not targets.is_floating_point() else f"targets of shape {tuple(targets.shape)}"
        raise ConfigError(
            f"`loss.name` ({name}) needs a number for each output, {tuple(outputs.shape)}, and the data gives {kind}; "
            "use cross_entropy for classes, or a data set with targets"
        )
    return targets.to(outputs.dtype)


def _weighted(loss_BK: Tensor, weights_K: Tensor | None) -> Tensor:
    return loss_BK if weights_K is None else loss_BK * weights_K


def _class_weights(cfg: LossConfig, classes: list[str], device: torch.device) -> Tensor | None:
    for name in cfg.class_weights:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=3) or classes[:3]
            raise ConfigError(
                f"`loss.class_weights` ({name}) names no class of the data; there are {', '.join(near)}, ..."
            )
    if not cfg.class_weights:
        return None
    return torch.tensor([cfg.class_weights.get(name, 1.0) for name in classes], device=device)


def _own(cfg: LossConfig, device: torch.device) -> Criterion:
    """The user's class, called with ``loss.options``, or a function that takes outputs and targets."""
    found = load_callable(cfg.name, "loss.name")
    try:
        if inspect.isclass(found):
            criterion: Any = found(**cfg.options)
        else:
            with suppress(ValueError):  # a function of C has no signature
                inspect.signature(found).bind(None, None, **cfg.options)
            criterion = functools.partial(found, **cfg.options)
    except TypeError as error:
        raise ConfigError(f"`loss.options` ({cfg.options}) do not fit {cfg.name}: {error}") from None
    return _checked(f"`loss.name` ({cfg.name})", criterion, device)


def _checked(name: str, criterion: Any, device: torch.device) -> Criterion:
    """``criterion``, on the device if it is a module; what it returns is checked."""
    if isinstance(criterion, nn.Module):
        if any(p.requires_grad for p in criterion.parameters()):
            raise ConfigError(f"{name} has parameters to train; use buffers, or an objective (`loss.objective`)")
        criterion.to(device)
    return lambda x, y: _scalar(name, criterion(x, y))


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"{name} must return one number, the mean over the batch, and returned {found}")
    return value
