"""The buffers of each rank in a checkpoint, where those of rank 0 in the model's state are not enough.

A training pass may read a buffer that is not the same on all ranks, or one that ``state_dict`` leaves out.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.distributed.group import Dist, as_bytes
from dist_train.errors import ConfigError
from dist_train.model.cells import cells, tensor_in

log = logging.getLogger(__name__)

SHOWN = 3


class RankBuffers:
    """The buffers of ``objective`` that differ between ranks, and those outside ``state_dict`` that training has changed.

    The statistics of torch's BatchNorms are not among them: only evaluations read them, with those of rank 0.
    """

    def __init__(self, objective: nn.Module) -> None:
        unread = {
            f"{path}.{key}" for path, part in objective.named_modules() if _is_known_norm(part) for key in part._buffers
        }
        every = cells(objective, "_buffers").items()
        self._cells = {name: cell for name, cell in every if name not in unread and tensor_in(cell).numel()}
        saved = {id(tensor) for tensor in objective.state_dict(keep_vars=True).values()}
        left_out = {name: tensor_in(cell) for name, cell in self._cells.items() if id(tensor_in(cell)) not in saved}
        self._built = {name: tensor.clone() for name, tensor in left_out.items()}

    def state_dict(self, group: Dist) -> dict[str, Tensor]:
        """Return these buffers by name, [W, ...] with the shape of the buffer. Every rank must call it."""
        if not self._cells:
            return {}
        needed = torch.stack([self._needed(name, group) for name in self._cells])
        counts = group.sum(needed.int()).tolist()
        return {name: self._stacked(name, group) for name, count in zip(self._cells, counts, strict=True) if count}

    def _needed(self, name: str, group: Dist) -> Tensor:
        mine = tensor_in(self._cells[name])
        differs = _differ(mine, group.of_main(mine))
        return differs | _differ(mine, self._built[name]) if name in self._built else differs

    def _stacked(self, name: str, group: Dist) -> Tensor:
        mine = tensor_in(self._cells[name])
        return group.stack(as_bytes(mine.contiguous())).view(mine.dtype).view(group.world_size, *mine.shape)

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Tensor], group: Dist) -> None:
        """Load what ``state_dict`` returned, in place. If the world size has changed, all ranks take those of rank 0.

        Raises:
            ConfigError: this objective lacks a buffer.
        """
        if lacking := saved.keys() - self._cells.keys():
            raise ConfigError(
                f"the checkpoint holds buffers that the model lacks: {_some(sorted(lacking))}; restore the model's code, or "
                "choose another `run.name`"
            )
        for name, rows in saved.items():
            tensor_in(self._cells[name]).copy_(rows[group.rank if len(rows) == group.world_size else 0])
        others = [name for name, rows in saved.items() if 1 < len(rows) != group.world_size]
        if others and group.is_main:
            log.warning(
                "%s differ between the ranks of the checkpoint, whose number was another one: all ranks continue with "
                "those of rank 0",
                _some(others),
            )


def _is_known_norm(part: nn.Module) -> bool:
    """Return whether a part is a BatchNorm that does not read its statistics in training mode.

    They differ between any two ranks, and a copy for each would be most of a large run's checkpoint of a small model.
    """
    return isinstance(part, _BatchNorm) and type(part).__module__.startswith(("torch.", "timm.", "dist_train."))


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Return whether two tensors have different bytes, bool []: NaN is the same as NaN."""
    return (as_bytes(one.detach().contiguous()) != as_bytes(other.contiguous())).any()


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
