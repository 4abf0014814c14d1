"""The optimizer that a config names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dist_train.config.choices import OPTIMIZERS
from dist_train.config.sections.optim import OptimConfig
from dist_train.config.user_code import function_of
from dist_train.distributed.strategies.shards import is_shared
from dist_train.errors import ConfigError
from dist_train.learning.optimizers.param_groups import Groups, groups_of_objective, param_groups

FUSED_ON = ("cpu", "cuda")
"""Devices on which torch has fused SGD, Adam and AdamW: one kernel updates many parameters."""


def build_optimizer(
    cfg: OptimConfig,
    module: nn.Module,
    head: frozenset[str],
    own: Sequence[nn.Parameter] = (),
    later: frozenset[str] = frozenset(),
) -> torch.optim.Optimizer:
    """Return the optimizer over all trainable parameters. Each parameter group has an ``lr_scale``.

    Args:
        head: names of the parameters of the head.
        own: parameters of the objective, which have the learning rate of the head.
        later: names of the parameters that begin to train later.

    Raises:
        ConfigError: the optimizer is unknown, or the optimizer or the model does not support an option.
    """
    for key in sorted({"lr", "params", *type(cfg).model_fields} & cfg.options.keys()):
        raise ConfigError(f"`optim.options` ({key}) is a key of its own; set `optim.{key}`")
    groups = [*param_groups(cfg, module, head, later), *groups_of_objective(cfg, own)]
    options = OPTIMIZERS.options(cfg.name, cfg)
    if cfg.eps is None:
        options.pop("eps", None)
    if OPTIMIZERS.find(cfg.name) is OPTIMIZERS.own:
        options["name"] = cfg.name
    try:
        build = function_of(OPTIMIZERS, cfg.name)
        return build(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, **options, **cfg.options)  # type: ignore[no-any-return]
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"`optim.name` ({cfg.name}) cannot be built: {str(error).splitlines()[0]}") from error


def sgd(groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """Return torch's SGD. With momentum, the fused version gets momentum buffers of zeros, which give the same first step.

    Otherwise fused SGD allocates the buffers in the first step and leaves them uninitialised if the loss scaler skips that
    step. It also fails if only some parameters have buffers, as after ``model.unfreeze``.
    """
    fused = _can_fuse(groups) and not any(is_shared(p) for group in groups for p in group["params"])  # torch has none
    optimizer = torch.optim.SGD(groups, fused=fused, **options)
    if fused and options["momentum"]:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def adam(groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """Return torch's Adam."""
    return torch.optim.Adam(groups, fused=_can_fuse(groups), **options)


def adamw(groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """Return torch's AdamW."""
    return torch.optim.AdamW(groups, fused=_can_fuse(groups), **options)


def rmsprop(groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """Return torch's RMSprop."""
    return torch.optim.RMSprop(groups, **options)


def _can_fuse(groups: Groups) -> bool:
    return all(p.device.type in FUSED_ON and p.is_floating_point() for group in groups for p in group["params"])


def replace_optimizer(old: torch.optim.Optimizer, new: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return ``new`` with the state that ``old`` has for its parameters."""
    for parameter, moments in old.state.items():
        new.state[parameter] = moments
    return new


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Give each loaded moment the memory layout of its parameter.

    A checkpoint holds contiguous tensors. Fused optimizers read parameters and moments in memory order: for a
    channels-last parameter they would use the moment of another weight.
    """
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.shape == parameter.shape and moment.stride() != parameter.stride():
                moments[name] = torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of each group to ``lr`` times its ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
