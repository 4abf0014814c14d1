"""The training objective: a module around the model that maps images and targets to a loss.

An objective is an ``nn.Module`` that holds the model as a sub-module. ``forward(images, targets)`` returns the loss, a
scalar, or ``{"loss": loss, name: scalar, ...}``: the other scalars become columns of the training row. Loss and scalars
are means over the batch. An objective may add layers, which train with the model, and frozen parts, such as a teacher.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dist_train.config.user_code import load_callable
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.sections.loss import LossConfig
    from dist_train.distributed.group import Dist
    from dist_train.model.network import Channels

MakeObjective = Callable[[nn.Module], nn.Module]

COLUMNS = (
    "step", "epoch", "split", "loss", "lr", "grad_norm", "images_per_s", "data_wait", "data_wait_max", "slowest_rank",
    "slowest_ratio", "gpu_mem_gb", "loss_scale", "skipped_steps",
    "host_mem_gb", "loader_mem_gb", "gpu_util", "gpu_watts", "gpu_used_gb", "mfu",
)  # fmt: skip
"""The names that a training row already uses; an objective cannot use them for its scalars."""


Autocast = Callable[[], AbstractContextManager[Any]]
"""Returns the autocast context of a forward pass."""


@dataclass(frozen=True)
class Parts:
    """What one of our objectives is built from.

    Attributes:
        model: the model.
        trained: what is trained through: the model, or a module that runs it in half precision.
        loss: takes the outputs and the targets.
        classes: the names of the outputs.
        images: mean and standard deviation with which images are normalised.
    """

    cfg: "LossConfig"
    model: nn.Module
    trained: nn.Module
    loss: nn.Module
    autocast: Autocast
    classes: list[str]
    images: "tuple[Channels, Channels]"
    group: "Dist"


class Supervised(nn.Module):
    """The usual objective: a loss of the model's outputs. The loss is computed in float32, whatever the precision."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Tensor], autocast: Autocast) -> None:
        super().__init__()
        self.model, self.loss, self._autocast = model, loss, autocast

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with self._autocast():
            outputs = self.model(images)
        return {"loss": self.loss(outputs, targets)}


class TrainingPass(nn.Module):
    """A user's objective as a strategy wraps it: it runs under autocast and returns named float32 scalars.

    Autocast is entered in here because it is per thread, and DataParallel runs each replica in another thread.
    """

    def __init__(self, objective: nn.Module, autocast: Autocast) -> None:
        super().__init__()
        self.objective, self._autocast = objective, autocast

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with self._autocast():
            found = self.objective(images, targets)
        named: dict[str, Tensor] = {"loss": found} if isinstance(found, Tensor) else found
        return {name: value.float() if name == "loss" else value.detach().float() for name, value in named.items()}


def build_objective(cfg: "LossConfig", given: MakeObjective | None, model: nn.Module) -> nn.Module:
    """Return the user's objective around ``model``: ``given`` if not None, else `loss.objective`.

    Raises:
        ConfigError: the objective cannot be built, or is not a module that holds the model.
    """
    name = str(cfg.objective) if given is None else getattr(given, "__qualname__", type(given).__name__)
    make = load_callable(name, "loss.objective") if given is None else given
    try:
        objective = make(model, **({} if given else cfg.objective_options))
    except TypeError as error:
        raise ConfigError(f"`loss.objective_options` ({cfg.objective_options}) do not fit {name}: {error}") from error
    if not isinstance(objective, nn.Module):
        raise ConfigError(f"`loss.objective` ({name}) must be a torch.nn.Module, but is {type(objective).__name__}")
    if not any(part is model for part in objective.modules()):
        raise ConfigError(
            f"`loss.objective` ({name}) must hold the model as a sub-module, else its gradients are not averaged over "
            "ranks: add `self.model = model`"
        )
    return objective


def check_result(found: dict[str, Tensor]) -> None:
    """Check what an objective returned.

    Raises:
        ConfigError: there is no loss, a value is not a scalar, or a name is already used.
    """
    if "loss" not in found or not found["loss"].requires_grad:
        raise ConfigError("`loss.objective` must return a loss with a gradient, or a dict with one as `loss`")
    for key, value in found.items():
        if value.ndim:
            raise ConfigError(
                f"`loss.objective` must return scalars, means over the batch; {key} has shape {list(value.shape)}"
            )
        if key in COLUMNS and key != "loss":
            raise ConfigError(
                f"`loss.objective` returns {key}, but every row already has this column; use another name"
            )
