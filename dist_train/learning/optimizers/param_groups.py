"""Groups of parameters, each with its weight decay and its factor of the learning rate."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from typing import Any

from torch import nn

from dist_train.config.sections.optim import OptimConfig
from dist_train.errors import ConfigError
from dist_train.model.naming.layer_order import decay_order
from dist_train.model.naming.patterns import named_by, nothing_named

Groups = list[dict[str, Any]]


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
        from timm.optim import param_groups_layer_decay  # it imports torch's DTensor, sympy and more

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
    else:
        groups = _by_decay(cfg, module, exempt)
    factors = _factors(cfg, module, later)
    return _split(groups, cfg.head_lr_scale, {p for name, p in module.named_parameters() if name in head}, factors)


def _by_decay(cfg: OptimConfig, module: nn.Module, exempt: Collection[str]) -> Groups:
    """Return the parameters exempt from weight decay, then the others, as ``timm.optim.param_groups_weight_decay`` does."""
    members: dict[float, list[nn.Parameter]] = {0.0: [], cfg.weight_decay: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            small = parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatch(name, pattern) for pattern in exempt)
            members[0.0 if small and not cfg.decay_norm_and_bias else cfg.weight_decay].append(parameter)
    return [{"params": found, "weight_decay": decay} for decay, found in members.items() if found]


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


def groups_of_objective(cfg: OptimConfig, own: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
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
