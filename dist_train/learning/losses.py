"""The training criterion that a config names: outputs [B, K] and targets to a scalar, the mean over the micro-batch.

Targets are class labels (int64 [B]), soft or several labels (float [B, K]), or regression targets (float [B, T]).
The mean over equal micro-batches and ranks is the mean over the global batch. ``config/choices.py`` lists the losses,
``loss_functions/`` has one function for each.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from dist_train.config.choices import LOSSES
from dist_train.config.sections.loss import LossConfig
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError

Loss = Callable[[Any, Tensor], Tensor]
"""A model's outputs (auxiliary ones as a tuple behind the main ones) and targets, to a scalar."""

Criterion = Callable[[Tensor, Tensor], Tensor]


def build_loss(cfg: LossConfig, classes: list[str], group: Dist, module: nn.Module) -> Loss:
    """Return the criterion, with auxiliary heads and the L1 penalty on what trains in ``module``.

    Raises:
        ConfigError: an option names no class, or the user's own cannot be built.
    """
    criterion = _criterion(cfg, classes, group)

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        total = criterion(main.float(), targets)
        for output in auxiliary:
            if output is not None:
                total = total + cfg.aux_weight * criterion(output.float(), targets)
        return total + cfg.l1 * l1_norm(module) if cfg.l1 else total

    return loss


def l1_norm(module: nn.Module) -> Tensor:
    """Return the sum of the absolute values of all parameters that train."""
    return torch.stack([p.abs().sum() for p in module.parameters() if p.requires_grad]).sum()


def _criterion(cfg: LossConfig, classes: list[str], group: Dist) -> Criterion:
    row, function, options = LOSSES.find(cfg.name), LOSSES.function(cfg.name), LOSSES.options(cfg.name, cfg)
    if row is LOSSES.own:
        return _own(function, cfg, group.device)
    if "class_weights" in options:
        options["class_weights"] = _class_weights(cfg, classes, group.device)
    if row.whole_batch:
        options["group"] = group
    return functools.partial(function, **options)


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


def _own(found: Callable[..., Any], cfg: LossConfig, device: torch.device) -> Criterion:
    """Return the user's class, called with ``loss.options``, or a function that takes outputs and targets."""
    try:
        if inspect.isclass(found):
            criterion: Any = found(**cfg.options)
        else:
            with suppress(ValueError):  # a function of C has no signature
                inspect.signature(found).bind(None, None, **cfg.options)
            criterion = functools.partial(found, **cfg.options)
    except TypeError as error:
        raise ConfigError(f"`loss.options` ({cfg.options}) do not fit {cfg.name}: {error}") from None
    if isinstance(criterion, nn.Module):
        if any(p.requires_grad for p in criterion.parameters()):
            raise ConfigError(
                f"`loss.name` ({cfg.name}) has parameters to train, which no optimizer holds; use buffers"
            )
        criterion.to(device)
    return lambda outputs, targets: _scalar(cfg.name, criterion(outputs, targets))


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"`loss.name` ({name}) must return one number, the mean over the batch, and returned {found}")
    return value
