"""Freeze and unfreeze parameters, and the training mode of a partly frozen model. The head always trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn

from dist_train.errors import ConfigError
from dist_train.model.naming.layer_order import is_block, layers
from dist_train.model.naming.patterns import is_a, named_by, nothing_named, paths

if TYPE_CHECKING:
    from dist_train.config.sections.model import ModelConfig


STAYS_IN_EVAL = "dist_train_stays_in_eval"
"""The attribute of frozen parts that have statistics but no parameters, which would show that they are frozen."""


@dataclass(frozen=True)
class Stage:
    """What begins to train after ``epoch`` epochs.

    Attributes:
        names: of the parameters.
        statistics: the paths of the parts that have statistics but no parameters.
    """

    epoch: int
    names: frozenset[str]
    statistics: frozenset[str]


def freeze(module: nn.Module, cfg: "ModelConfig", head: frozenset[str]) -> frozenset[str]:
    """Turn off the gradients of every parameter that ``model.freeze`` names, except those of the head.

    Parts without parameters that keep statistics, such as ``BatchNorm2d(affine=False)``, are frozen with what is around
    them: ``train_mode`` keeps them in eval mode.

    Args:
        head: the names of the parameters of the head.

    Returns:
        The names of the frozen parameters, for ``stages``.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    patterns = _patterns(cfg)
    if not patterns:
        return frozenset()
    statistics = _statistics(module, head)
    if cfg.freeze == "backbone":
        names = {name for name, _ in module.named_parameters()}
    else:
        names = set().union(*(_matching(module, pattern, head, statistics) for pattern in cfg.freeze))
    off = {name for name, parameter in module.named_parameters() if name in names - head and parameter.requires_grad}
    for name in off:
        module.get_parameter(name).requires_grad_(False)
    for path in statistics:
        if any(_freezes(pattern, module, path, names) for pattern in patterns):
            setattr(module.get_submodule(path), STAYS_IN_EVAL, True)
    return frozenset(off)


def covered_buffers(module: nn.Module, cfg: "ModelConfig", head: frozenset[str]) -> list[str]:
    """Return the names of the buffers that ``model.freeze`` covers, whether or not they stay as they are.

    A part that holds frozen layers and the head is in training mode, and may change its own buffers.
    """
    patterns = _patterns(cfg)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}

    def is_covered(path: str) -> bool:
        by_a_pattern = any(_freezes(pattern, module, path, frozen) for pattern in patterns)
        return by_a_pattern and not _in_head(module, path, head)

    return [name for name, _ in module.named_buffers() if is_covered(name.rpartition(".")[0])]


def _patterns(cfg: "ModelConfig") -> Sequence[str]:
    """Return the patterns of ``model.freeze``: `*` for the backbone; empty for none."""
    if isinstance(cfg.freeze, str):
        return ["*"] if cfg.freeze == "backbone" else []
    return cfg.freeze


def stages(module: nn.Module, cfg: "ModelConfig", frozen: frozenset[str]) -> tuple[Stage, ...]:
    """Return what ``model.unfreeze`` lets train, in the order of the epochs.

    Args:
        frozen: what ``freeze`` returned.

    Raises:
        ConfigError: a pattern matches nothing that is still frozen at its epoch.
    """
    left = frozen
    resting = frozenset(path for path, part in module.named_modules() if hasattr(part, STAYS_IN_EVAL))
    found = []
    for epoch, patterns in sorted(cfg.unfreeze.items()):
        names, statistics = frozenset[str](), frozenset[str]()
        for pattern in patterns:
            more = left if pattern == "all" else frozenset(_unfrozen_by(module, epoch, pattern, frozen)) & left
            still = frozenset(p for p in resting if pattern == "all" or _freezes(pattern, module, p, set(more)))
            if not more and not still:
                raise ConfigError(
                    f"`model.unfreeze` ({epoch}: {pattern}): all that it matches trains already; remove this pattern"
                )
            names, statistics = names | more, statistics | still
        left, resting = left - names, resting - statistics
        found.append(Stage(epoch, names, statistics))
    return tuple(found)


def _unfrozen_by(module: nn.Module, epoch: int, pattern: str, frozen: frozenset[str]) -> set[str]:
    kind, colon, _ = pattern.partition(":")
    if kind == "all_but_last" and colon:
        raise ConfigError(
            f"`model.unfreeze` ({epoch}: {pattern}): all_but_last is for `model.freeze`; name the layers, or use all"
        )
    found = named_by(module, pattern)
    if not found and not any(_freezes(pattern, module, path, set()) for path, _ in module.named_modules() if path):
        raise nothing_named(module, "model.unfreeze", pattern)
    return found


def unfreeze(module: nn.Module, stage: Stage) -> None:
    """Turn on the gradients of a stage's parameters, and let its statistics move."""
    for name in stage.names:
        module.get_parameter(name).requires_grad_(True)
    for path in stage.statistics:
        vars(module.get_submodule(path)).pop(STAYS_IN_EVAL, None)


def train_mode(module: nn.Module) -> None:
    """Call ``module.train()``, but keep every fully frozen part in eval mode.

    Otherwise frozen BatchNorms would continue to update their running statistics, and the outputs of the frozen part
    would change.
    """
    module.train()
    some_frozen = not all(p.requires_grad for p in module.parameters())
    for part in module.modules():
        if part is not module and (hasattr(part, STAYS_IN_EVAL) or (some_frozen and _all_frozen(part))):
            part.eval()


def _all_frozen(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def count_parameters(module: nn.Module) -> str:
    """Return the number of trainable and of all parameters as text."""
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return f"{trainable:,} of {total:,} parameters train"


def _matching(module: nn.Module, pattern: str, head: frozenset[str], statistics: list[str]) -> set[str]:
    """Return the names of the parameters that match ``pattern``.

    At least one is outside the head, unless the pattern matches a part of ``statistics``.
    """
    kind, colon, value = pattern.partition(":")
    if kind == "all_but_last" and colon:
        return _all_but_last(module, pattern, value, head)
    found = named_by(module, pattern)
    if found - head or any(_freezes(pattern, module, path, set()) for path in statistics):
        return found
    if found:
        raise ConfigError(f"`model.freeze` ({pattern}) matches only the head, which always trains; remove this pattern")
    raise nothing_named(module, "model.freeze", pattern)


def _statistics(module: nn.Module, head: frozenset[str]) -> list[str]:
    """Return the path of every part outside the head that has buffers and no parameters."""
    return [
        path
        for path, part in module.named_modules()
        if path
        and next(part.buffers(), None) is not None
        and next(part.parameters(), None) is None
        and not _in_head(module, path, head)
    ]


def _in_head(module: nn.Module, path: str, head: frozenset[str]) -> bool:
    """Return whether a part lies in one that has parameters of the head only."""
    return any(names and names <= head for names in (_parameters_below(module, outer) for outer in paths(path)))


def _parameters_below(module: nn.Module, path: str) -> set[str]:
    return {f"{path}.{name}" if path else name for name, _ in module.get_submodule(path).named_parameters()}


def _freezes(pattern: str, module: nn.Module, path: str, names: set[str]) -> bool:
    """Return whether a pattern freezes a part without parameters.

    Args:
        names: the names of the parameters that all patterns match.
    """
    kind, colon, value = pattern.partition(":")
    if kind == "type" and colon:
        outer = [module.get_submodule(outer) for outer in paths(path)]
        return any(is_a(part, value) for part in outer)
    if kind == "all_but_last" and colon:
        return path != "" and _neighbour(module, path) in names
    return any(fnmatchcase(outer, pattern) for outer in paths(path))


def _neighbour(module: nn.Module, path: str) -> str | None:
    """Return the name of the last parameter before a part without parameters; of the first one if there is none."""
    before: str | None = None
    for name, part in module.named_modules():
        if name == path and before is not None:
            return before
        for key, _ in part.named_parameters(recurse=False):
            before = f"{name}.{key}" if name else key
    return next((name for name, _ in module.named_parameters()), None)


def _all_but_last(module: nn.Module, pattern: str, value: str, head: frozenset[str]) -> set[str]:
    """Return the names of all parameters before the last ``value`` blocks."""
    in_order = layers(module)
    blocks = [i for i, names in enumerate(in_order) if is_block(module, names, head)]
    if not value.isdigit() or not 0 < int(value) < len(blocks):
        raise ConfigError(
            f"`model.freeze` ({pattern}): this model has {len(blocks)} blocks, so use all_but_last:N with N from 1 to "
            f"{len(blocks) - 1}"
        )
    return {name for names in in_order[: blocks[-int(value)]] for name in names}
