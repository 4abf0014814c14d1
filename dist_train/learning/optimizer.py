"""Parameter groups and the optimizer."""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_info,
    list_optimizers,
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import nn

from dist_train.config.choices import OPTIMIZERS
from dist_train.config.sections.optim import OptimConfig
from dist_train.config.user_code import function_of
from dist_train.errors import ConfigError

FUSED_ON = ("cpu", "cuda")
"""Devices on which torch's SGD, Adam and AdamW update all parameters in one kernel."""


def build_optimizer(
    cfg: OptimConfig, module: nn.Module, head: frozenset[str], own: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimizer over all that can train; each group carries its ``lr_scale``.

    Args:
        own: parameters of the objective, which train at the rate of the head.

    Raises:
        ConfigError: no such optimizer, or it or the model refuses an option.
    """
    groups = [*param_groups(cfg, module, head), *_own_groups(cfg, own)]
    options = OPTIMIZERS.options(cfg.name, cfg)
    if cfg.eps is None:
        options.pop("eps", None)
    if OPTIMIZERS.find(cfg.name) is OPTIMIZERS.own:
        options["name"] = _name_of_timm(cfg.name)
    try:
        build = function_of(OPTIMIZERS, cfg.name)
        return build(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, **options)  # type: ignore[no-any-return]
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"`optim.name` ({cfg.name}) cannot be built: {str(error).splitlines()[0]}") from error


Groups = list[dict[str, Any]]


def sgd(groups: Groups, **options: Any) -> torch.optim.Optimizer:
    """Return torch's SGD, its momentum zero from the start, which makes the same first step.

    The fused one makes its buffers in the first step and leaves them as they came from the allocator if the loss scaler has
    that step skipped; and it does not take buffers that only some parameters have, as after ``model.unfreeze_epoch``.
    """
    optimizer = torch.optim.SGD(groups, fused=_can_fuse(groups), **options)
    if _can_fuse(groups) and options["momentum"]:
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


def of_timm(groups: Groups, *, name: str, **options: Any) -> torch.optim.Optimizer:
    """Return any of timm's, with those of our options that it knows."""
    info = get_optimizer_info(name)
    if not (info.has_betas and info.num_betas == 2):
        del options["betas"]
    return create_optimizer_v2(groups, opt=name, **options)  # type: ignore[no-any-return]


def _can_fuse(groups: Groups) -> bool:
    return all(p.device.type in FUSED_ON and p.is_floating_point() for group in groups for p in group["params"])


def _name_of_timm(name: str) -> str:
    """Return the name that timm knows.

    Raises:
        ConfigError: it knows none, or this trainer cannot drive that optimizer.
    """
    base = name.lower().removeprefix("lookahead_")
    if base != name.lower():
        raise ConfigError(
            f"`optim.name` ({name}): lookahead keeps a copy of the weights that no checkpoint holds; use {base}"
        )
    known = list_optimizers()
    if base not in known:
        ours = list(OPTIMIZERS.rows)
        near = difflib.get_close_matches(base, [*known, *ours], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise ConfigError(f"`optim.name` ({name}) is neither {', '.join(ours)} nor one of timm's: {hint}")
    if get_optimizer_info(base).second_order:
        raise ConfigError(f"`optim.name` ({name}) needs second derivatives, which this trainer does not compute")
    return base


def param_groups(cfg: OptimConfig, module: nn.Module, head: frozenset[str]) -> list[dict[str, Any]]:
    """Groups of trainable parameters with their ``weight_decay`` and ``lr_scale``.

    Layers and their order are timm's (``group_matcher``); the scale of layer i of L is
    ``layer_decay ** (L - i)`` as in BEiT, and ``head_lr_scale`` more for the head.

    Raises:
        ConfigError: layer-wise decay of a model that does not know its layers.
    """
    exempt = module.no_weight_decay() if hasattr(module, "no_weight_decay") else set()  # type: ignore[operator]
    if cfg.layer_decay < 1:
        if not hasattr(module, "group_matcher"):
            raise ConfigError(
                f"`optim.layer_decay` ({cfg.layer_decay}) needs a timm model, which knows the order of its layers; set it to 1"
            )
        groups = param_groups_layer_decay(
            module,
            weight_decay=cfg.weight_decay,
            no_weight_decay_list=() if cfg.decay_norm_and_bias else exempt,
            weight_decay_exclude_1d=not cfg.decay_norm_and_bias,
            layer_decay=cfg.layer_decay,
        )
    elif cfg.decay_norm_and_bias:
        groups = [{"params": [p for p in module.parameters() if p.requires_grad], "weight_decay": cfg.weight_decay}]
    else:
        groups = param_groups_weight_decay(module, cfg.weight_decay, no_weight_decay_list=exempt)
    return _split_head(groups, cfg.head_lr_scale, {p for name, p in module.named_parameters() if name in head})


def _own_groups(cfg: OptimConfig, own: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Return groups of the objective's own parameters: matrices, and what may be exempt from decay."""
    decayed = [p for p in own if p.ndim > 1 or cfg.decay_norm_and_bias]
    others = [p for p in own if p.ndim <= 1 and not cfg.decay_norm_and_bias]
    groups = [{"params": decayed, "weight_decay": cfg.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [{**group, "lr_scale": cfg.head_lr_scale} for group in groups if group["params"]]


def _split_head(groups: list[dict[str, Any]], scale: float, head: set[nn.Parameter]) -> list[dict[str, Any]]:
    if scale == 1:
        return [{"lr_scale": 1.0, **group} for group in groups if group["params"]]
    split = []
    for group in groups:
        for in_head, factor in ((False, 1.0), (True, scale)):
            members = [p for p in group["params"] if (p in head) == in_head]
            if members:
                split.append({**group, "params": members, "lr_scale": group.get("lr_scale", 1.0) * factor})
    return split


def replace_optimizer(old: torch.optim.Optimizer, new: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """``new``, with what ``old`` remembers of the parameters that both hold."""
    for parameter, moments in old.state.items():
        new.state[parameter] = moments
    return new


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Give each loaded moment the memory layout of its parameter.

    A checkpoint holds tensors in the usual layout. Fused optimizers go through parameter and moments in the order of
    memory: with a channels-last parameter they would take each moment for that of another weight.
    """
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.shape == parameter.shape and moment.stride() != parameter.stride():
                moments[name] = torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its share of the learning rate ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
