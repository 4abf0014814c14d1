"""Objects passed from Python code, which replace those that the config names, and code of the user in general."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dist_train.config.choices import STRATEGIES
from dist_train.errors import ConfigError
from dist_train.learning.objective import MakeObjective
from dist_train.model.backbones import GivenModel
from dist_train.run.named_code import named_code

if TYPE_CHECKING:
    from dist_train.config.schema import Config


@dataclass(frozen=True)
class Given:
    """Objects passed from Python code. None means: use the object that the config names.

    Attributes:
        model: a module that maps images float32 [B, C, H, W] to outputs [B, K], or a callable that takes K and returns
            such a module.
        data: the training and the validation set, map-style, as docs/data.md describes for `package.module:callable`.
        loss: takes outputs float32 [B, K] and targets; returns a scalar, the mean over the batch.
        objective: a class or callable that takes the model and returns an objective (learning/objective.py).
        loggers: additional loggers.
        hooks: additional hooks.
    """

    model: GivenModel | None = None
    data: tuple[Any, Any] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    objective: MakeObjective | None = None
    loggers: tuple[Any, ...] = ()
    hooks: tuple[Any, ...] = ()

    def names(self) -> dict[str, str]:
        """Return where the class or function of each object is defined. A resume compares these names.

        Loggers and hooks are left out, since they do not change the weights.
        """
        objects = {
            "model": (self.model,),
            "data": self.data or (),
            "loss": (self.loss,),
            "objective": (self.objective,),
        }
        names = {
            key: ", ".join(qualified_name(value) for value in some if value is not None)
            for key, some in objects.items()
        }
        return {f"given.{key}": name for key, name in names.items() if name}


def has_own_code(cfg: "Config", given: Given) -> bool:
    """Return whether a part of the training pass may be code of the user."""
    own = (given.model, given.loss, given.objective, given.hooks or None)
    return bool(named_code(cfg)) or any(part is not None for part in own)


def refuse_combinations(cfg: "Config", given: Given) -> None:
    """Raise ConfigError if objects given in code, or an objective, do not work with keys of the config."""
    own = given.objective is not None or cfg.loss.objective is not None
    if given.objective is not None and STRATEGIES.find(cfg.distributed.strategy.name).shards:
        raise ConfigError(
            f"an objective is given, and may read weights outside the model's forward pass; `distributed.strategy` "
            f"({cfg.distributed.strategy.name}) divides them: use ddp"
        )
    if given.objective is not None and cfg.loss.distill is not None:
        raise ConfigError("an objective is given, and `loss.distill` is another one; remove one of them")
    if given.objective is not None and cfg.train.cached_features:
        raise ConfigError(
            "`train.cached_features` (true) trains on features, but an objective gets images; remove one of the two"
        )
    if cfg.train.precision == "fp16" and (own or cfg.model.compile):
        other = "`loss.objective`" if own else "`model.compile`"
        raise ConfigError(f"`train.precision` (fp16) does not work with {other}; use amp_fp16")
    if cfg.data.csv.weight is not None and (given.objective or given.loss):
        raise ConfigError(
            f"`data.csv.weight` ({cfg.data.csv.weight}) works with the losses of `loss.name`, but a loss or an objective is "
            "given; remove one of the two"
        )
    if own and given.loss is not None:
        raise ConfigError(
            "both a loss and an objective are given, but an objective computes its own loss; remove one of them"
        )


def qualified_name(value: object) -> str:
    """Return `module:qualname` of a class or function; for any other object, that of its class.

    >>> qualified_name(dict) == qualified_name({}) == "builtins:dict"
    True
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"
