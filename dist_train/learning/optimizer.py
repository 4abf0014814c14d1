"""Parameter groups and the optimizer."""

import difflib
from collections.abc import Collection, Sequence
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
from dist_train.distributed.strategies.shards import is_shared
from dist_train.errors import ConfigError
from dist_train.model.naming.layer_order import decay_order
from dist_train.model.naming.patterns import named_by, nothing_named

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
    groups = [*param_groups(cfg, module, head, later), *_own_groups(cfg, own)]
    options = OPTIMIZERS.options(cfg.name, cfg)
    if cfg.eps is None:
        options.pop("eps", None)
    if OPTIMIZERS.find(cfg.name) is OPTIMIZERS.own:
        options["name"] = _name_of_timm(cfg.name)
    try:
        build = function_of(OPTIMIZERS, cfg.name)
        return build(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, **options, **cfg.options)  # type: ignore[no-any-return]
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"`optim.name` ({cfg.name}) cannot be built: {str(error).splitlines()[0]}") from error


Groups = list[dict[str, Any]]


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


def of_timm(groups: Groups, *, name: str, **options: Any) -> torch.optim.Optimizer:
    """Return the timm optimizer ``name``, with those of ``options`` that it supports."""
    info = get_optimizer_info(name)
    if not (info.has_betas and info.num_betas == 2):
        del options["betas"]
    return create_optimizer_v2(groups, opt=name, **options)  # type: ignore[no-any-return]


def _can_fuse(groups: Groups) -> bool:
    return all(p.device.type in FUSED_ON and p.is_floating_point() for group in groups for p in group["params"])


def _name_of_timm(name: str) -> str:
    """Return timm's name of an optimizer.

    Raises:
        ConfigError: timm has no such optimizer, or this trainer does not support it.
    """
    base = name.lower().removeprefix("lookahead_")
    if base != name.lower():
        raise ConfigError(
            f"`optim.name` ({name}): lookahead keeps a copy of the weights that checkpoints cannot save; use {base}"
        )
    known = list_optimizers()
    if base not in known:
        ours = list(OPTIMIZERS.rows)
        near = difflib.get_close_matches(base, list(dict.fromkeys([*known, *ours])), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"timm has {', '.join(known)}"
        raise ConfigError(
            f"`optim.name` ({name}) is unknown: it is neither {', '.join(ours)} nor an optimizer of timm; {hint}"
        )
    if get_optimizer_info(base).second_order:
        raise ConfigError(
            f"`optim.name` ({name}) needs second derivatives, which this trainer does not compute; use another optimizer"
        )
    return base


def param_groups(
    cfg: OptimConfig, module: nn.Module, head: frozenset[str], later: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """Return groups of trainable parameters with their ``weight_decay`` and ``lr_scale``.

    The scale of layer i of L is ``layer_decay ** (L - i)``, as in BEiT (Bao et al., 2022), and at least ``layer_decay_min``.
    timm's ``group_matcher`` gives the layers; in other models ``decay_order`` does. The scale is multiplied by each factor of
    ``lr_scale`` that matches, and in the head by ``head_lr_scale``.

    Args:
        head: names of the parameters of the head.
        later: names of the parameters that begin to train later.

    Raises:
        ConfigError: a pattern of ``optim.lr_scale`` matches nothing that ever trains.
    """
    exempt = module.no_weight_decay() if hasattr(module, "no_weight_decay") else set()  # type: ignore[operator]
    if cfg.layer_decay < 1 and hasattr(module, "group_matcher"):
        groups = param_groups_layer_decay(
            module,
            weight_decay=cfg.weight_decay,
            no_weight_decay_list=() if cfg.decay_norm_and_bias else exempt,
            weight_decay_exclude_1d=not cfg.decay_norm_and_bias,
            layer_decay=cfg.layer_decay,
            min_scale=cfg.layer_decay_min,
        )
    elif cfg.layer_decay < 1:
        groups = _by_layer(cfg, module, head, exempt)
    elif cfg.decay_norm_and_bias:
        groups = [{"params": [p for p in module.parameters() if p.requires_grad], "weight_decay": cfg.weight_decay}]
    else:
        groups = param_groups_weight_decay(module, cfg.weight_decay, no_weight_decay_list=exempt)
    factors = _factors(cfg, module, later)
    return _split(groups, cfg.head_lr_scale, {p for name, p in module.named_parameters() if name in head}, factors)


def _by_layer(cfg: OptimConfig, module: nn.Module, head: frozenset[str], exempt: Collection[str]) -> Groups:
    """Return two groups for each layer: parameters with weight decay, and those exempt from it."""
    groups: Groups = []
    order = decay_order(module, head)
    for above, names in enumerate(reversed(order)):
        scale = max(cfg.layer_decay_min, cfg.layer_decay**above)
        members: dict[float, list[nn.Parameter]] = {}
        for name in names:
            parameter = module.get_parameter(name)
            free = not cfg.decay_norm_and_bias and (parameter.ndim <= 1 or name in exempt)
            if parameter.requires_grad:
                members.setdefault(0.0 if free else cfg.weight_decay, []).append(parameter)
        groups += [{"params": found, "weight_decay": decay, "lr_scale": scale} for decay, found in members.items()]
    return groups


def _factors(cfg: OptimConfig, module: nn.Module, later: frozenset[str]) -> dict[nn.Parameter, float]:
    """Return the product of the factors of ``optim.lr_scale`` for each parameter that a pattern matches."""
    factors: dict[nn.Parameter, float] = {}
    for pattern, factor in cfg.lr_scale.items():
        names = named_by(module, pattern)
        if not names:
            raise nothing_named(module, "optim.lr_scale", pattern)
        if not any(name in later or module.get_parameter(name).requires_grad for name in names):
            raise ConfigError(f"`optim.lr_scale` ({pattern}): all that it matches is frozen; remove this pattern")
        for parameter in {module.get_parameter(name) for name in names}:  # a shared one counts once
            factors[parameter] = factors.get(parameter, 1.0) * factor
    return factors


def _own_groups(cfg: OptimConfig, own: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Return groups of the objective's parameters: those with weight decay, and those exempt from it (norms, biases)."""
    decayed = [p for p in own if p.ndim > 1 or cfg.decay_norm_and_bias]
    others = [p for p in own if p.ndim <= 1 and not cfg.decay_norm_and_bias]
    groups = [{"params": decayed, "weight_decay": cfg.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [{**group, "lr_scale": cfg.head_lr_scale} for group in groups if group["params"]]


def _split(groups: Groups, head_scale: float, head: set[nn.Parameter], factors: dict[nn.Parameter, float]) -> Groups:
    """Split groups so that each has one ``lr_scale``; the head comes last in each."""
    split = []
    for group in groups:
        members: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for parameter in group["params"]:
            in_head = head_scale != 1 and parameter in head
            members.setdefault((in_head, factors.get(parameter, 1.0)), []).append(parameter)
        for in_head, factor in sorted(members):
            scale = group.get("lr_scale", 1.0) * (head_scale if in_head else 1.0) * factor
            split.append({**group, "params": members[in_head, factor], "lr_scale": scale})
    return split


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
