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
from dist_train.config.user_code import function_of
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError

Criterion = Callable[[Tensor, Tensor], Tensor]


class Loss(nn.Module):
    """A criterion with auxiliary heads and the L1 penalty on what trains in ``model``.

    A module, so that DataParallel's replicas have its tensors on their own device.
    """

    def __init__(self, cfg: LossConfig, criterion: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self._aux_weight, self._l1 = cfg.aux_weight, cfg.l1
        self.criterion, self.model = criterion, model

    def forward(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the loss of a model's outputs, auxiliary ones as a tuple behind the main ones."""
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        if not isinstance(main, Tensor):
            raise ConfigError(
                f"`model.name`: the model returns a {type(main).__name__} in training mode, and a loss needs a tensor "
                "[B, K], or a tuple with auxiliary outputs behind it; return that, or write an objective (`loss.objective`)"
            )
        total: Tensor = self.criterion(main.float(), targets)
        for output in auxiliary:
            if output is not None:
                total = total + self._aux_weight * self.criterion(output.float(), targets)
        return total + self._l1 * l1_norm(self.model) if self._l1 else total


def build_loss(
    cfg: LossConfig, classes: list[str], group: Dist, module: nn.Module, given: Criterion | None = None
) -> Loss:
    """Return the loss of a model's outputs and targets.

    Args:
        module: the model, whose parameters the L1 penalty is on.
        given: a criterion given in code, in place of `loss.name`.

    Raises:
        ConfigError: an option names no class, or the user's own cannot be built.
    """
    criterion = _criterion(cfg, classes, group) if given is None else _Own("the loss given", given)
    return Loss(cfg, criterion.to(group.device), module)


def l1_norm(module: nn.Module) -> Tensor:
    """Return the sum of the absolute values of all parameters that train."""
    return torch.stack([p.abs().sum() for p in module.parameters() if p.requires_grad]).sum()


def _criterion(cfg: LossConfig, classes: list[str], group: Dist) -> nn.Module:
    row, function, options = LOSSES.find(cfg.name), function_of(LOSSES, cfg.name), LOSSES.options(cfg.name, cfg)
    if row is LOSSES.own:
        return _Own(f"`loss.name` ({cfg.name})", _built(function, cfg))
    weights = None
    if "class_weights" in options:
        weights, options["class_weights"] = _class_weights(cfg, classes), None
    if row.whole_batch:
        options["group"] = group
    return _Listed(function, options, weights)


class _Listed(nn.Module):
    """A function of ``config/choices.py`` with its options."""

    def __init__(self, function: Criterion, options: dict[str, Any], class_weights: Tensor | None) -> None:
        super().__init__()
        self._function: Callable[..., Tensor] = functools.partial(function, **options)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.class_weights is None:
            return self._function(outputs, targets)
        return self._function(outputs, targets, class_weights=self.class_weights)


class _Own(nn.Module):
    """The user's criterion; what it returns is checked."""

    def __init__(self, name: str, criterion: Criterion) -> None:
        super().__init__()
        self._name, self.criterion = name, criterion
        if any(p.requires_grad for p in self.parameters()):
            raise ConfigError(f"{name} has parameters to train; use buffers, or an objective (`loss.objective`)")

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value: Any = self.criterion(outputs, targets)
        if not isinstance(value, Tensor) or value.ndim:
            found = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{self._name} must return one number, the mean over the batch, and returned {found}")
        return value


def _class_weights(cfg: LossConfig, classes: list[str]) -> Tensor | None:
    for name in cfg.class_weights:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=3) or classes[:3]
            raise ConfigError(
                f"`loss.class_weights` ({name}) names no class of the data; there are {', '.join(near)}, ..."
            )
    if not cfg.class_weights:
        return None
    return torch.tensor([cfg.class_weights.get(name, 1.0) for name in classes])


def _built(found: Callable[..., Any], cfg: LossConfig) -> Criterion:
    """Return the user's class, called with ``loss.options``, or a function that takes outputs and targets."""
    try:
        if inspect.isclass(found):
            made: Any = found(**cfg.options)
            return made  # type: ignore[no-any-return]
        with suppress(ValueError):  # a function of C has no signature
            inspect.signature(found).bind(None, None, **cfg.options)
        return functools.partial(found, **cfg.options)
    except TypeError as error:
        raise ConfigError(f"`loss.options` ({cfg.options}) do not fit {cfg.name}: {error}") from None
