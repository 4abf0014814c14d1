"""The buffers of each rank in a checkpoint, where those of rank 0 in the model's state are not enough.

A training pass may read a buffer that is not the same on all ranks, or one that ``state_dict`` leaves out.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.distributed.collectives import as_bytes
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.model.cells import cells, tensor_in

log = logging.getLogger(__name__)

SHOWN = 3


class RankBuffers:
    """The buffers of ``objective`` that differ between ranks, and those outside ``state_dict`` that training has changed.

    The statistics of BatchNorm differ between any two ranks. The training passes of torch, timm and torchvision do not read
    them, so where all code is theirs the checkpoint holds those of rank 0 only. Code of the user may read them at any step.

    Args:
        own_code: a part of the training pass, such as the model or the objective, is code of the user.
    """

    def __init__(self, objective: nn.Module, own_code: bool) -> None:
        norms = {} if own_code else dict(objective.named_modules())
        unread = {f"{path}.{key}" for path, part in norms.items() if _is_known_norm(part) for key in part._buffers}
        every = cells(objective, "_buffers").items()
        self._cells = {name: cell for name, cell in every if name not in unread and tensor_in(cell).numel()}
        saved = {id(tensor) for tensor in objective.state_dict(keep_vars=True).values()}
        left_out = {name: tensor_in(cell) for name, cell in self._cells.items() if id(tensor_in(cell)) not in saved}
        self._built = {name: tensor.clone() for name, tensor in left_out.items()}

    def state_dict(self, group: Dist) -> dict[str, Tensor]:
        """Return these buffers by name, [W, ...] with the shape of the buffer. Every rank must call it."""
        mine = {name: _bytes_of(tensor_in(cell)) for name, cell in self._cells.items()}
        names = self._needed(mine, group) if mine else set()
        needed = {name: part for name, part in mine.items() if name in names}
        if not needed:
            return {}
        stacked = group.stack(torch.cat(list(needed.values())))
        parts = torch.split(stacked, [len(part) for part in needed.values()], dim=1)
        return {name: self._shaped(name, part) for name, part in zip(needed, parts, strict=True)}

    def _needed(self, mine: dict[str, Tensor], group: Dist) -> set[str]:
        """Return the names of the buffers to save, the same on every rank.

        Args:
            mine: this rank's buffers as bytes. They travel as one tensor: a collective for each would take much longer.
        """
        first = torch.split(group.of_main(torch.cat(list(mine.values()))), [len(part) for part in mine.values()])
        differs = [(part != other).any() for part, other in zip(mine.values(), first, strict=True)]
        moved = [self._moved(name, part) for name, part in mine.items()]
        counts = group.sum((torch.stack(differs) | torch.stack(moved)).int()).tolist()
        return {name for name, count in zip(mine, counts, strict=True) if count}

    def _moved(self, name: str, mine: Tensor) -> Tensor:
        """Return whether a buffer outside ``state_dict`` has other bytes than at the start, bool []."""
        built = self._built.get(name)
        return (mine != (mine if built is None else _bytes_of(built))).any()

    def _shaped(self, name: str, stacked: Tensor) -> Tensor:
        mine, alone = tensor_in(self._cells[name]), stacked.clone(memory_format=torch.contiguous_format)
        return as_bytes(alone).view(mine.dtype).view(len(stacked), *mine.shape)

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
    """Return whether a part is a BatchNorm that does not read its statistics in training mode."""
    return isinstance(part, _BatchNorm) and type(part).__module__.startswith(("torch.", "timm.", "dist_train."))


def _bytes_of(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, uint8 [N]: NaN is the same as NaN."""
    return as_bytes(tensor.detach().contiguous())


def _some(names: list[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
