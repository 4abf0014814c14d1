"""Objects given in code, in place of what the config names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dist_train.learning.objective import MakeObjective
from dist_train.model.backbones import GivenModel


@dataclass(frozen=True)
class Given:
    """Objects given in code, in place of what the config names; None means what the config names.

    Attributes:
        model: a module that maps images [B, 3, S, S] to outputs [B, K], or a callable that makes one, called with K.
        data: training and validation set, map-style, as docs/data.md describes them for `package.module:callable`.
        loss: takes outputs, float32 [B, K], and targets; returns a scalar, the mean over the batch.
        objective: a class, or another callable, that makes an objective around the model (learning/objective.py).
        loggers: more places where rows go.
    """

    model: GivenModel | None = None
    data: tuple[Any, Any] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    objective: MakeObjective | None = None
    loggers: tuple[Any, ...] = ()

    def names(self) -> dict[str, str]:
        """What a resume compares: of each object that changes the weights, where its class or function is defined."""
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
    """`module:qualname` of a class or function, or of the class of any other object.

    >>> qualified_name(dict) == qualified_name({}) == "builtins:dict"
    True
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"
