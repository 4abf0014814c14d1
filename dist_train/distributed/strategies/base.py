"""A strategy: how an objective trains on the devices of all ranks. Each has its own file; training/setup.py chooses."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dist_train.distributed.group import Dist

if TYPE_CHECKING:
    from dist_train.config.schema import Config

Scalars = dict[str, Tensor]
"""What the training module returns: ``"loss"`` and other named scalars, float32 []."""


class Strategy(ABC):
    """What the training step needs to know about ranks and devices. The defaults are those for one device.

    Attributes:
        devices: the devices on which this process computes.
        gradient_dtype: ``distributed.gradient_dtype``, for strategies that exchange gradients.
        cpu_offload: ``distributed.strategy.cpu_offload``, for strategies that divide weights.
        one_graph: the model is compiled as a whole.
        shares_saves: each rank saves the rows that it has (``saved``).
    """

    gradient_dtype = "fp32"
    cpu_offload = False
    one_graph = False
    shares_saves = False

    def __init__(self, group: Dist) -> None:
        self.group, self.devices = group, [group.device]

    def refuse(self, cfg: "Config") -> None:  # noqa: B027 - most strategies can do everything
        """Raise ConfigError if the config uses an option that this strategy does not support."""

    def shard(self, module: nn.Module, blocks: Sequence[nn.Module]) -> None:  # noqa: B027 - most keep every weight whole
        """Divide the weights of ``module`` among the ranks, in place. Every rank must call it.

        Args:
            blocks: the parts of ``module`` whose weights a rank needs at the same time.
        """

    def gathered(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return the context in which every rank has all weights of ``module``. Every rank must enter it."""
        return nullcontext()

    def rest(self, module: nn.Module) -> None:  # noqa: B027 - most keep every weight whole
        """Let ``module`` have the parameters that the optimizer has; a forward pass without a backward pass may have replaced them."""

    @abstractmethod
    def wrap(self, module: nn.Module, all_used: bool) -> nn.Module:
        """Return the module to train through.

        Args:
            module: takes images [B, C, H, W] and targets, returns ``Scalars``: means over the batch.
            all_used: every parameter that trains gets a gradient from each batch.
        """

    def settle(self, wrapped: nn.Module, images: Tensor, targets: Tensor) -> None:  # noqa: B027 - only DDP needs it
        """Run the passes that this strategy needs before the first step. The caller restores buffers and gradients.

        Args:
            images, targets: zeros with the shapes and dtypes of training.
        """

    def unused(self, wrapped: nn.Module) -> list[str]:
        """Return the names of the parameters that got no gradient in the last backward pass, if other ranks wait for it."""
        return []

    def accumulate(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Return the context for all but the last micro-batch of a step."""
        return nullcontext()

    def clip(self, grads: list[Tensor], limit: float) -> Tensor:
        """Scale ``grads`` so that their total norm is at most ``limit``. Return the norm before, float32 [] on their device."""
        # Bit-identical to `torch.nn.utils.clip_grad_norm_`, but without sorting the tensors by device and dtype, which
        # takes 1.9 to 2.1 % of a step of 6 ms (benchmarks/results/shortcuts.md).
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if limit < math.inf:
            torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def state_dict(self, part: nn.Module | torch.optim.Optimizer) -> dict[str, Any]:
        """Return the whole state of a model or an optimizer; needed on rank 0 only. Every rank must call it."""
        return part.state_dict()

    def saved(self, part: nn.Module | torch.optim.Optimizer) -> dict[str, Any]:
        """Return the state of a model or an optimizer as a checkpoint takes it. Every rank must call it."""
        return self.state_dict(part)

    def load_state_dict(self, part: nn.Module | torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, in place. Every rank must call it."""
        part.load_state_dict(state)
