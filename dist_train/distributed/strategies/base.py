"""A strategy: how one objective trains on the devices of all ranks. One file for each; training/setup.py chooses."""

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dist_train.distributed.group import Dist

if TYPE_CHECKING:
    from dist_train.config.schema import Config

Scalars = dict[str, Tensor]
"""What the module to train returns: ``"loss"``, and further scalars, float32 []."""


class Strategy(ABC):
    """What the training step needs to know of ranks and devices. The defaults are those of one device.

    Attributes:
        devices: where this process computes.
    """

    def __init__(self, group: Dist) -> None:
        self.group, self.devices = group, [group.device]

    def refuse(self, cfg: "Config") -> None:  # noqa: B027 - most strategies can do everything
        """Raise ConfigError if the config asks for what this strategy cannot do."""

    @abstractmethod
    def wrap(self, module: nn.Module, all_used: bool) -> nn.Module:
        """Return the module to train through.

        Args:
            module: takes images [B, 3, S, S] and targets, returns ``Scalars``: means over the batch.
            all_used: every parameter that trains gets a gradient from each batch.
        """

    def settle(self, wrapped: nn.Module, images: Tensor, targets: Tensor) -> None:  # noqa: B027 - only DDP needs it
        """Run the passes that must precede the first step. Only gradients and what the module itself changes remain.

        Args:
            images, targets: zeros, as training has them.
        """

    def unused(self, wrapped: nn.Module) -> list[str]:
        """Return the parameters without a gradient that the last backward pass left other ranks waiting for, by name."""
        return []

    def accumulate(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Return the context for all but the last micro-batch of a step."""
        return nullcontext()

    def clip(self, grads: list[Tensor], limit: float) -> Tensor:
        """Scale ``grads`` so that their total norm is at most ``limit``; return the norm before, on the device."""
        # The bits of `torch.nn.utils.clip_grad_norm_`, without its sorting of tensors by device and type, which takes
        # 1.9 to 2.1 % of a step of 6 ms (benchmarks/results/shortcuts.md).
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if limit < math.inf:
            torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def state_dict(self, part: nn.Module | torch.optim.Optimizer) -> dict[str, Any]:
        """Return the whole state of a model or an optimizer. Every rank must call this."""
        return part.state_dict()

    def load_state_dict(self, part: nn.Module | torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, in place. Every rank must call this."""
        part.load_state_dict(state)
