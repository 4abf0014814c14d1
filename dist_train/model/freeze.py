"""Freeze and unfreeze parameters, and the training mode of a partly frozen model. The head always trains."""

import difflib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from timm.models import group_parameters
from torch import nn

from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.sections.model import ModelConfig


STAYS_IN_EVAL = "dist_train_stays_in_eval"
"""The attribute of frozen parts that have statistics but no parameters, which would show that they are frozen."""


def freeze(module: nn.Module, cfg: "ModelConfig", head: frozenset[str]) -> frozenset[str]:
    """Turn off the gradients of every parameter that ``model.freeze`` names, except those of the head.

    Parts without parameters that keep statistics, such as ``BatchNorm2d(affine=False)``, are frozen with what is around
    them: ``train_mode`` keeps them in eval mode.

    Args:
        head: the names of the parameters of the head.

    Returns:
        The names of the frozen parameters, for ``unfreeze``.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    if cfg.freeze == "none":
        return frozenset()
    statistics = _statistics(module, head)
    if cfg.freeze == "backbone":
        names = {name for name, _ in module.named_parameters()}
    else:
        names = set().union(*(_matching(module, pattern, head, statistics) for pattern in cfg.freeze))
    off = {name for name, parameter in module.named_parameters() if name in names - head and parameter.requires_grad}
    for name in off:
        module.get_parameter(name).requires_grad_(False)
    patterns = ["*"] if cfg.freeze == "backbone" else cfg.freeze
    for path in statistics:
        if any(_freezes(pattern, module, path, names) for pattern in patterns):
            setattr(module.get_submodule(path), STAYS_IN_EVAL, True)
    return frozenset(off)


def unfreeze(module: nn.Module, names: frozenset[str]) -> None:
    """Turn on the gradients of the parameters that ``freeze`` returned, and let all statistics move."""
    for name in names:
        module.get_parameter(name).requires_grad_(True)
    for part in module.modules():
        vars(part).pop(STAYS_IN_EVAL, None)


def train_mode(module: nn.Module) -> None:
    """Call ``module.train()``, but keep every fully frozen part in eval mode.

    Otherwise frozen BatchNorms would continue to update their running statistics, and the outputs of the frozen part
    would change.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        frozen = parameters and not any(p.requires_grad for p in parameters)
        if part is not module and (frozen or hasattr(part, STAYS_IN_EVAL)):
            part.eval()


def describe(module: nn.Module) -> str:
    """Return the number of trainable and of all parameters as text."""
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return f"{trainable:,} of {total:,} parameters train"


def _matching(module: nn.Module, pattern: str, head: frozenset[str], statistics: list[str]) -> set[str]:
    """Return the names of the parameters that match ``pattern``.

    At least one is outside the head, unless the pattern matches a part of ``statistics``.
    """
    kind, colon, value = pattern.partition(":")
    if kind == "type" and colon:
        found = {name for name, part in _with_names(module) if value in (cls.__name__ for cls in type(part).__mro__)}
        known = {type(part).__name__ for part in module.modules()}
    elif kind == "all_but_last" and colon:
        return _all_but_last(module, pattern, value, head)
    else:
        found = {name for name, _ in module.named_parameters() if any(fnmatchcase(p, pattern) for p in _paths(name))}
        known = {path for name, _ in module.named_parameters() for path in _paths(name)}
    if found - head or any(_freezes(pattern, module, path, set()) for path in statistics):
        return found
    if found:
        raise ConfigError(f"`model.freeze` ({pattern}) matches only the head, which always trains; remove this pattern")
    near = difflib.get_close_matches(value if colon else pattern, known, n=3) or sorted(known, key=len)[:8]
    raise ConfigError(f"`model.freeze` ({pattern}) matches nothing in this model, which has {', '.join(near)}, ...")


def _with_names(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the name of every parameter with each module that contains it."""
    for path, part in module.named_modules():
        if path:
            yield from ((f"{path}.{name}", part) for name, _ in part.named_parameters())


def _statistics(module: nn.Module, head: frozenset[str]) -> list[str]:
    """Return the path of every part outside the head that has buffers and no parameters."""
    return [
        path
        for path, part in module.named_modules()
        if path
        and next(part.buffers(), None) is not None
        and next(part.parameters(), None) is None
        and not any(names and names <= head for names in (_parameters_below(module, outer) for outer in _paths(path)))
    ]


def _parameters_below(module: nn.Module, path: str) -> set[str]:
    return {f"{path}.{name}" for name, _ in module.get_submodule(path).named_parameters()}


def _freezes(pattern: str, module: nn.Module, path: str, names: set[str]) -> bool:
    """Return whether a pattern freezes a part without parameters.

    Args:
        names: the names of the parameters that all patterns match.
    """
    kind, colon, value = pattern.partition(":")
    if kind == "type" and colon:
        outer = [module.get_submodule(outer) for outer in _paths(path)]
        return any(value in (cls.__name__ for cls in type(part).__mro__) for part in outer)
    if kind == "all_but_last" and colon:
        return _neighbour(module, path) in names
    return any(fnmatchcase(outer, pattern) for outer in _paths(path))


def _neighbour(module: nn.Module, path: str) -> str | None:
    """Return the name of the last parameter before a part without parameters; of the first one if there is none."""
    before: str | None = None
    for name, part in module.named_modules():
        if name == path and before is not None:
            return before
        for key, _ in part.named_parameters(recurse=False):
            before = f"{name}.{key}" if name else key
    return next((name for name, _ in module.named_parameters()), None)


def _paths(name: str) -> list[str]:
    """Return the name of a parameter and the names of all modules that contain it, the outermost first.

    >>> _paths("layer1.0.weight")
    ['layer1', 'layer1.0', 'layer1.0.weight']
    """
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _all_but_last(module: nn.Module, pattern: str, value: str, head: frozenset[str]) -> set[str]:
    """Return the names of all parameters before the last ``value`` blocks."""
    layers = _layers(module)
    blocks = [i for i, names in enumerate(layers) if _is_block(module, names, head)]
    if not value.isdigit() or not 0 < int(value) < len(blocks):
        raise ConfigError(
            f"`model.freeze` ({pattern}): this model has {len(blocks)} blocks, so use all_but_last:N with N from 1 to "
            f"{len(blocks) - 1}"
        )
    return {name for names in layers[: blocks[-int(value)]] for name in names}


def _is_block(module: nn.Module, names: list[str], head: frozenset[str]) -> bool:
    """Return whether a layer counts as a block: it has a weight matrix or kernel, and no parameter of the head."""
    return not head & set(names) and any(module.get_parameter(name).ndim > 1 for name in names)


def _layers(module: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of each layer, from the input to the output.

    timm's models use timm's own groups (the layers of ``optim.layer_decay``). In other models a layer is an item of a
    list of modules (nn.Sequential, nn.ModuleList).
    """
    if hasattr(module, "group_matcher"):
        groups = group_parameters(module, module.group_matcher(coarse=False))  # type: ignore[operator]
        return [groups[layer] for layer in sorted(groups)]
    parts = [path for path, _ in _parts("", module, sum(p.numel() for p in module.parameters()))]
    layers: dict[str, list[str]] = {"": [], **{path: [] for path in parts}}
    for name, _ in module.named_parameters():
        layers[next((path for path in _paths(name) if path in layers), "")].append(name)
    return list(layers.values())


def _parts(prefix: str, module: nn.Module, total: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a model in order. Replace a list of modules, or a part with most parameters, by its children."""
    inside_list = type(module) in (nn.Sequential, nn.ModuleList)
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        most = 2 * sum(p.numel() for p in child.parameters()) > total
        if type(child) in (nn.Sequential, nn.ModuleList) or (most and not inside_list and any(child.children())):
            yield from _parts(f"{path}.", child, total)
        else:
            yield path, child
