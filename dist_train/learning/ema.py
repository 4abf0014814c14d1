"""Exponential moving average of a model."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dist_train.distributed.strategies.shards import local
from dist_train.errors import ConfigError
from dist_train.model.cells import Cell, cells, tensor_in

RUNNING_AVERAGES = ("running_mean", "running_var")
"""The names of the buffers that are averaged, those of torch's norm layers."""

_averaging = lru_cache(maxsize=1)(get_ema_multi_avg_fn)
"""torch's function for a decay. To build it takes as long as to average a small model."""


class Ema:
    """The moving average of all float parameters and running statistics; other buffers are copied. Step 1 copies everything.

    Step 1 is the first update, and each ``every`` steps there is another one, as with torchvision's ``--model-ema-steps``.

    An average of other buffers has no meaning (a counter), or is NaN (a mask of attention that holds -inf).

    Each step makes one foreach call over a list of cells that is built once: walking over the modules at every step would
    take longer than the arithmetic of a small model.

    Args:
        shared: names of parameters that never change: the average has no copy of them.
    """

    def __init__(
        self, model: nn.Module, decay: float, shared: Collection[str] = (), warmup: bool = False, every: int = 1
    ) -> None:
        self.module = _copy(model, [model.get_parameter(name) for name in shared]).eval()
        self._decay, self._warmup, self._every = decay, warmup, every
        mine, theirs = (cells(module, "_parameters", "_buffers").values() for module in (self.module, model))
        both = zip(mine, theirs, strict=True)
        pairs = [pair for pair in both if tensor_in(pair[0]) is not tensor_in(pair[1])]
        self._averaged = [pair for pair in pairs if _is_averaged(pair[0])]
        self._copied = [pair for pair in pairs if not _is_averaged(pair[0])]

    @property
    def averaged(self) -> list[Tensor]:
        """Return the tensors that are averages: of weights that ranks share, the part of this rank."""
        return [local(tensor_in(mine)) for mine, _ in self._averaged]

    @torch.no_grad()
    def update(self, step: int, finite: Tensor | None = None) -> None:
        """Update the average with the model after optimizer step ``step`` (from 1).

        Args:
            finite: bool [] on the device: if it is false, the step was skipped and the average stays as it was.
        """
        if self._averaged and (step - 1) % self._every == 0:
            average = self.averaged
            newest = [local(tensor_in(theirs)) for _, theirs in self._averaged]
            if step == 1:  # a skipped first step has left the weights of the start, which the average already has
                torch._foreach_copy_(average, newest)
            elif finite is not None and finite.is_cuda:
                _average_if(finite, average, newest, 1 - self.decay(step))
            elif finite is None or finite:  # reading a flag on the CPU does not wait
                _averaging(self.decay(step))(average, newest, step)
        if self._copied:
            self.copy_the_others()

    def decay(self, step: int) -> float:
        """Return the decay of the update after step ``step``; with a warm-up, that of timm's ``ModelEmaV3``."""
        updates = (step - 1) // self._every
        return min(self._decay, 1 - (1 + updates) ** (-2 / 3)) if self._warmup else self._decay

    @torch.no_grad()
    def copy_the_others(self) -> None:
        """Copy the buffers that are not averaged."""
        for mine, theirs in self._copied:
            tensor_in(mine).copy_(tensor_in(theirs))


def _copy(model: nn.Module, shared: Sequence[nn.Parameter]) -> nn.Module:
    try:
        return deepcopy(model, {id(parameter): parameter for parameter in shared})
    except Exception as error:  # whatever the model holds: a lock, a file, a tensor with a gradient
        raise ConfigError(
            f"`train.ema` needs a copy of the model, which cannot be copied ({error}): remove the key, or give the class "
            "that holds this object a `__deepcopy__`"
        ) from error


def _is_averaged(cell: Cell) -> bool:
    tensor = tensor_in(cell)
    if not tensor.is_floating_point() or not (isinstance(tensor, nn.Parameter) or cell[1] in RUNNING_AVERAGES):
        return False
    return bool(tensor.isfinite().all())  # a mask may be a frozen parameter, too


def _average_if(finite: Tensor, average: list[Tensor], newest: list[Tensor], weight: float) -> None:
    """Move ``average`` by ``weight`` towards ``newest``; by 0 unless ``finite``. A list of weights would be a kernel each."""
    moves = torch._foreach_sub(newest, average)
    torch._foreach_mul_(moves, finite.float())
    torch._foreach_add_(average, moves, alpha=weight)
