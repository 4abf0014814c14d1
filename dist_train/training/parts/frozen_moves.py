"""Values that ``model.freeze`` covers and a training pass changes all the same: a warning names them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dist_train.config.schema import Config
from dist_train.distributed.collectives import as_bytes
from dist_train.distributed.strategies.shards import local
from dist_train.learning.objective import TrainingPass
from dist_train.model.freeze import covered_buffers
from dist_train.model.network import Network
from dist_train.training.parts.trial import trial_passes

SHOWN = 5


def note_of_moves(names: Sequence[str], cfg: Config) -> str:
    """Return the warning for values that move though they are frozen."""
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    frozen = cfg.model.freeze if isinstance(cfg.model.freeze, str) else ", ".join(cfg.model.freeze)
    are, them = ("it is", "it") if len(names) == 1 else ("they are", "them")
    return (
        f"`model.freeze` ({frozen}) does not keep {shown} as {are}: the forward pass of the model changes {them}, and the "
        f"outputs of the frozen layers may change with {them}. Keep {them} in a module without parameters, which is frozen "
        f"with the layers around it, and change {them} only while `self.training` of that module is true"
    )


@torch.no_grad()
def moves_though_frozen(
    cfg: Config, network: Network, module: TrainingPass, images: Tensor, targets: Tensor
) -> list[str]:
    """Run one training pass on noise, and return the names of the frozen parameters and buffers that it changes.

    Args:
        module: the training pass, in training mode.
        images, targets: a batch of a few images, of which the shapes and dtypes count.
    """
    model = network.module
    if cfg.model.freeze == "none":
        return []
    names = covered_buffers(model, cfg.model, network.head)
    before, norms = _bytes_of(model, names), _norms(model)
    with trial_passes(cfg, images.device, module):
        torch.manual_seed(cfg.run.seed)  # the block restores the generator
        module(torch.randn_like(images), targets)
        moved = _differing(before, _bytes_of(model, names))
    return moved + _differing(norms, _norms(model))


def _differing(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    return [name for name, value in before.items() if not (after[name] == value).all()]


def _bytes_of(model: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    """Return a copy of each buffer as bytes: NaN is the same as NaN."""
    return {name: as_bytes(model.get_buffer(name).contiguous()).clone() for name in names}


def _norms(model: nn.Module) -> dict[str, Tensor]:
    """Return the norm of each frozen parameter: a copy of all would be almost as large as the model."""
    every = {name: local(value.detach()) for name, value in model.named_parameters() if _is_frozen(value)}
    return {name: torch.linalg.vector_norm(value).nan_to_num() for name, value in every.items()}


def _is_frozen(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() and not parameter.requires_grad
