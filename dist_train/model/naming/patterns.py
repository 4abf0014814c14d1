"""Patterns that name parameters: ``model.freeze``, ``model.unfreeze`` and ``optim.lr_scale`` take them."""

import difflib
from collections.abc import Iterator
from fnmatch import fnmatchcase

from torch import nn

from dist_train.errors import ConfigError


def named_by(module: nn.Module, pattern: str) -> set[str]:
    """Return the names of the parameters that match ``pattern``; maybe none.

    Args:
        pattern: ``type:CLASS``, or the name or glob of a parameter or of a module that contains it.
    """
    kind, colon, value = pattern.partition(":")
    if kind == "type" and colon:
        return {name for name, part in _with_names(module) if is_a(part, value)}
    return {name for name, _ in module.named_parameters() if any(fnmatchcase(p, pattern) for p in paths(name))}


def nothing_named(module: nn.Module, key: str, pattern: str) -> ConfigError:
    """Return the error of a pattern that matches nothing, with the nearest names."""
    kind, colon, value = pattern.partition(":")
    if kind == "type" and colon:
        known = {type(part).__name__ for part in module.modules()}
    else:
        known, value = {path for name, _ in module.named_parameters() for path in paths(name)}, pattern
    near = difflib.get_close_matches(value, known, n=3) or sorted(known, key=len)[:8]
    return ConfigError(f"`{key}` ({pattern}) matches nothing in this model, which has {', '.join(near)}, ...")


def is_a(part: nn.Module, name: str) -> bool:
    """Return whether a module is of the class ``name`` or of a subclass."""
    return name in (cls.__name__ for cls in type(part).__mro__)


def paths(name: str) -> list[str]:
    """Return the name of a parameter and the names of all modules that contain it, the outermost first.

    >>> paths("layer1.0.weight")
    ['layer1', 'layer1.0', 'layer1.0.weight']
    """
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _with_names(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the name of every parameter with each module that contains it."""
    for path, part in module.named_modules():
        if path:
            yield from ((f"{path}.{name}", part) for name, _ in part.named_parameters())
