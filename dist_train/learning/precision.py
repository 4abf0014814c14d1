"""Number formats: autocast, loss scaling and the guarded optimizer step as one object."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dist_train.config.sections.train import TrainConfig

Clip = Callable[[list[Tensor], float], Tensor]
"""Scales gradients to at most a total norm, and returns the norm before."""

AUTOCAST_DTYPES = {"fp32": None, "amp_bf16": torch.bfloat16, "amp_fp16": torch.float16, "fp16": torch.float16}


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Precision:
    """How forward, backward and optimizer step handle numbers.

    A gradient that is not finite is left out of the weights in two cases, without asking the GPU: with fp16,
    where it is how the loss scale is found, and with ``train.nonfinite: skip``, where the scaler's own check is
    used at a constant scale of 1.
    """

    def __init__(self, cfg: TrainConfig, device: torch.device) -> None:
        self._dtype = AUTOCAST_DTYPES[cfg.precision]
        self._device_type = device.type
        self._clip = cfg.clip_grad or math.inf
        self._pure = cfg.precision == "fp16"
        self.scales = self._dtype == torch.float16
        self.skips = self.scales or cfg.nonfinite == "skip"
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**16 if self.scales else 1.0, enabled=self.skips)
        torch.backends.cuda.matmul.allow_tf32 = cfg.tf32
        torch.backends.cudnn.allow_tf32 = cfg.tf32

    def to_train(self, model: nn.Module) -> nn.Module:
        """Return ``model`` itself, or for pure fp16 its forward pass in half precision."""
        return HalfForward(model) if self._pure else model

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device_type, dtype=self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, scaled if need be."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, clip: Clip) -> Tensor:
        """Clip, and update the weights.

        Args:
            clip: the strategy's.

        Returns:
            The norm of the whole gradient before clipping, on the device.
        """
        if self.skips:
            self.scaler.unscale_(optimizer)
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = clip(grads, self._clip)
        if self.skips:
            self.scaler.step(optimizer)
            self.scaler.update(None if self.scales else 1.0)
        else:
            optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)


class HalfForward(nn.Module):
    """``module`` computed in half precision, from parameters that stay float32 and are the master weights.

    Every forward pass rounds a copy of the weights to fp16; their gradients come back through the rounding as
    float32. So optimizer, EMA, checkpoints and the gradients that ranks exchange are as in fp32. BatchNorms keep
    their float32 parameters and statistics, which torch's kernels take beside half-precision images.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        kept = {
            tensor
            for part in module.modules()
            if isinstance(part, BATCH_NORMS)
            for tensor in (*part.parameters(), *part.buffers())
        }
        every = [*module.named_parameters(), *module.named_buffers()]
        self._names = [name for name, tensor in every if tensor.is_floating_point() and tensor not in kept]

    def forward(self, images: Tensor) -> Any:
        tensors = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        halves = {name: tensors[name].half() for name in self._names}
        with torch.autocast(images.device.type, enabled=False):
            return functional_call(self.module, halves, (images.half(),))
