"""Objects passed from Python code, which replace those that the config names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dist_train.learning.objective import MakeObjective
from dist_train.model.backbones import GivenModel


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


def qualified_name(value: object) -> str:
    """Return `module:qualname` of a class or function; for any other object, that of its class.

    >>> qualified_name(dict) == qualified_name({}) == "builtins:dict"
    True
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"
