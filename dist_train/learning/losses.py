"""The loss that a config names: it maps outputs [B, K] and targets to a scalar, the mean over the micro-batch.

Targets are class labels (int64 [B]), soft labels or multiple labels (float [B, K]), or regression targets (float [B, T]).
All micro-batches and ranks have the same number of images, so the mean of their losses is the mean over the global batch.
``config/choices.py`` lists the losses; ``loss_functions/`` has one function for each.

A suffix of a tensor's name gives its shape, in all modules: B images of a batch, C channels, H height, W width, S side of
a square image, K classes or outputs, T regression targets, N samples of a split. ``logits_BK`` is [B, K]. For values of
several ranks, W is the number of ranks.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dist_train.config.choices import LOSSES
from dist_train.config.sections.loss import ClassBalanceConfig, LossConfig
from dist_train.config.user_code import function_of
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError

Criterion = Callable[[Tensor, Tensor], Tensor]


class Loss(nn.Module):
    """A criterion on the outputs of all heads, and the L1 penalty on the trainable parameters of ``model``.

    This is a module so that DataParallel copies its tensors to the device of each replica.
    """

    def __init__(self, cfg: LossConfig, criterion: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self._aux_weight, self._l1 = cfg.aux_weight, cfg.l1
        self.criterion, self.model = criterion, model

    def forward(self, outputs: Any, targets: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: [B, K], or a tuple of the main outputs and the auxiliary ones (None for a head without outputs).
            targets: see the module's docstring; or a pair of them and the weights of the samples, float32 [B].
        """
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        if not isinstance(main, Tensor):
            raise ConfigError(
                f"`model.name`: the model returns a {type(main).__name__} in training mode, but a loss needs a tensor "
                "[B, K], or a tuple of it and auxiliary outputs; return that, or write an objective (`loss.objective`)"
            )
        total = self._of_a_head(main.float(), targets)
        for output in auxiliary:
            if output is not None:
                total = total + self._aux_weight * self._of_a_head(output.float(), targets)
        return total + self.penalty() if self._l1 else total

    def penalty(self) -> Tensor | float:
        """Return the part of the result that does not depend on outputs and targets: the L1 penalty."""
        return self._l1 * l1_norm(self.model) if self._l1 else 0.0

    def _of_a_head(self, outputs_BK: Tensor, targets: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean of the samples' losses, each times its weight: their sum divided by B.

        A division by the sum of the weights would give each rank and each micro-batch another divisor.
        """
        if isinstance(targets, Tensor):
            mean: Tensor = self.criterion(outputs_BK, targets)
            return mean
        labels, weights_B = targets
        each_B = torch.vmap(lambda output, label: self.criterion(output[None], label[None]))(outputs_BK, labels)
        weighted: Tensor = (weights_B * each_B).mean()
        return weighted


def build_loss(
    cfg: LossConfig,
    classes: list[str],
    counts_K: NDArray[np.int64] | None,
    group: Dist,
    module: nn.Module,
    given: Criterion | None = None,
) -> Loss:
    """Return the loss of a model's outputs and targets.

    Args:
        counts_K: training images of each class, int64 [K]; None for a regression.
        module: the model, for the L1 penalty.
        given: a criterion passed from Python code, which replaces `loss.name`.

    Raises:
        ConfigError: `loss.class_weights` has an unknown class, or the user's criterion cannot be built.
    """
    criterion = _criterion(cfg, classes, counts_K, group) if given is None else _Own("the loss given", given)
    return Loss(cfg, criterion.to(group.device), module)


def l1_norm(module: nn.Module) -> Tensor:
    """Return the sum of the absolute values of all trainable parameters, a scalar."""
    return torch.stack([p.abs().sum() for p in module.parameters() if p.requires_grad]).sum()


def _criterion(cfg: LossConfig, classes: list[str], counts_K: NDArray[np.int64] | None, group: Dist) -> nn.Module:
    row, function, options = LOSSES.find(cfg.name), function_of(LOSSES, cfg.name), LOSSES.options(cfg.name, cfg)
    if row is LOSSES.own:
        return _Own(f"`loss.name` ({cfg.name})", _built(function, cfg))
    weights_K: Tensor | None = None
    offset_K: Tensor | None = None
    if "class_weights" in options:
        weights_K = _class_weights(cfg, classes)
        options["class_weights"] = None  # ``_Listed`` passes the tensor, if there is one
    if (balance := options.pop("class_balance", None)) is not None:  # then `loss.class_weights` is empty
        assert counts_K is not None
        weights_K = balancing_weights(balance, counts_K)
    if (tau := options.pop("logit_adjustment", None)) is not None:
        assert counts_K is not None
        offset_K = tau * log_shares(counts_K)
    if "options" in options:
        options |= _checked_options(cfg, function, options.pop("options"))
    if row.whole_batch:
        options["group"] = group
    return _Listed(function, options, weights_K, offset_K)


class _Listed(nn.Module):
    """A loss function from ``config/choices.py`` with its options."""

    offset_K: Tensor | None

    def __init__(
        self, function: Criterion, options: dict[str, Any], class_weights: Tensor | None, offset_K: Tensor | None
    ) -> None:
        super().__init__()
        self.register_buffer("offset_K", offset_K, persistent=False)
        self._function: Callable[..., Tensor] = functools.partial(function, **options)
        self.register_buffer("class_weights", class_weights, persistent=False)
        # Plain attributes: a module finds its buffers by `__getattr__`, which takes 2 us.
        self._has_offset, self._has_weights = offset_K is not None, class_weights is not None

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._has_offset:
            outputs = outputs + self.offset_K  # type: ignore[operator]
        if not self._has_weights:
            return self._function(outputs, targets)
        return self._function(outputs, targets, class_weights=self.class_weights)


class _Own(nn.Module):
    """The user's criterion; its result is checked."""

    def __init__(self, name: str, criterion: Criterion) -> None:
        super().__init__()
        self._name, self.criterion = name, criterion
        if any(p.requires_grad for p in self.parameters()):
            raise ConfigError(
                f"{name} has trainable parameters, which a loss must not have; use buffers, or an objective "
                "(`loss.objective`)"
            )

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value: Any = self.criterion(outputs, targets)
        if not isinstance(value, Tensor) or value.ndim:
            found = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{self._name} must return one number, the mean over the batch, but returned {found}")
        return value


def _checked_options(cfg: LossConfig, function: Criterion, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``loss.options`` of a loss in ``config/choices.py``.

    Raises:
        ConfigError: the loss has no such option, or a value is not a number.
    """
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    ]
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"`loss.options` ({name}): {cfg.name} has no such option; it has {', '.join(known)}")
        if not isinstance(value, int | float):
            raise ConfigError(f"`loss.options` ({name}: {value!r}) must be a number, true or false")
    return given


def balancing_weights(cfg: ClassBalanceConfig, counts_K: NDArray[np.int64]) -> Tensor:
    """Return the factor of each class, float32 [K]; their mean over the training images is 1.

    A class without images gets 1.
    """
    images = np.maximum(counts_K, 1).astype(np.float64)
    effective = images if cfg.name == "balanced" else (1 - cfg.beta**images) / (1 - cfg.beta)
    weights = effective**-cfg.power
    weights = weights * counts_K.sum() / (weights * counts_K).sum()
    return torch.from_numpy(np.where(counts_K > 0, weights, 1.0)).float()


def log_shares(counts_K: NDArray[np.int64]) -> Tensor:
    """Return the log of each class's share of the training images, float32 [K].

    A class without images counts as one image: its log would be minus infinity.
    """
    images = np.maximum(counts_K, 1)
    return torch.from_numpy(np.log(images / images.sum())).float()


def _class_weights(cfg: LossConfig, classes: list[str]) -> Tensor | None:
    for name in cfg.class_weights:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=3) or classes[:3]
            raise ConfigError(
                f"`loss.class_weights` ({name}) is not a class of the data; use one of its classes: {', '.join(near)}, ..."
            )
    if not cfg.class_weights:
        return None
    return torch.tensor([cfg.class_weights.get(name, 1.0) for name in classes])


def _built(found: Callable[..., Any], cfg: LossConfig) -> Criterion:
    """Return an object of the user's class, or the user's function, with ``loss.options`` as its arguments."""
    try:
        if inspect.isclass(found):
            made: Any = found(**cfg.options)
            return made  # type: ignore[no-any-return]
        with suppress(ValueError):  # a function written in C may have no signature
            inspect.signature(found).bind(None, None, **cfg.options)
        return functools.partial(found, **cfg.options)
    except TypeError as error:
        raise ConfigError(f"`loss.options` ({cfg.options}) do not fit {cfg.name}: {error}") from None
