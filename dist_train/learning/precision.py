"""Precision: autocast, loss scaling, and the optimizer step that can skip non-finite gradients."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dist_train.config.sections.train import TrainConfig
from dist_train.learning.clipping import Clip

AUTOCAST_DTYPES = {"fp32": None, "amp_bf16": torch.bfloat16, "amp_fp16": torch.float16, "fp16": torch.float16}


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Precision:
    """The precision of the forward pass, the backward pass and the optimizer step.

    A step whose gradient norm is not finite is skipped in two cases, without waiting for the GPU: with fp16, where the loss
    scaler needs this to find its scale; and with ``train.nonfinite: skip``.

    Attributes:
        scales: whether the loss is scaled (fp16).
        skips: whether steps whose gradient norm is not finite are skipped.
        finite: where they are: whether the last step was finite, bool [] on the device of the gradients.
    """

    def __init__(self, cfg: TrainConfig, device: torch.device) -> None:
        self._dtype = AUTOCAST_DTYPES[cfg.precision]
        self._device_type = device.type
        self._pure = cfg.precision == "fp16"
        self._no_autocast = nullcontext()
        self.scales = self._dtype == torch.float16
        self.skips = self.scales or cfg.nonfinite == "skip"
        self.finite: Tensor | None = None
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**16 if self.scales else 1.0, enabled=self.skips)
        torch.backends.cuda.matmul.allow_tf32 = cfg.tf32
        torch.backends.cudnn.allow_tf32 = cfg.tf32

    def to_train(self, model: nn.Module) -> nn.Module:
        """Return ``model``; for ``train.precision=fp16``, a module that runs it in half precision."""
        return HalfForward(model) if self._pure else model

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for a forward pass."""
        return self._no_autocast if self._dtype is None else torch.autocast(self._device_type, dtype=self._dtype)

    def backward(self, loss: Tensor, times: Tensor | None = None) -> None:
        """Add the gradients of ``loss``, times the loss scale if there is one, and times ``times``, float32 []."""
        scaled = self.scaler.scale(loss) if self.scales else loss
        if times is not None:
            # The same gradients as backward(times), which imports sympy: 0.35 s and 40 MB.
            scaled = scaled * times
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, clip: Clip) -> Tensor:
        """Clip the gradients and update the weights.

        Args:
            clip: the result of ``clipping``.

        Returns:
            The total gradient norm before clipping, float32 [] on the device of the gradients.
        """
        if self.scales:
            self.scaler.unscale_(optimizer)
        norm = clip([p for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        self.finite = norm < math.inf if self.skips else None
        if self.finite is None:
            optimizer.step()
        elif self.scales:
            # torch looks at single gradients, each of which may be finite while their norm overflows. No public name
            # reaches the flag that the optimizer reads.
            for skip in self.scaler._found_inf_per_device(optimizer).values():
                skip.copy_(self.finite.logical_not())
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            _step_if(self.finite, optimizer)
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)


def _step_if(finite: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Update the weights if ``finite``, bool [] on the device of the gradients, is true.

    On a GPU the kernels of torch's fused optimizers read the flag; for any other optimizer the host waits for it. The loss
    scaler does the same at a scale of 1, but it also multiplies and checks each gradient, which takes more than 1 % of a
    step of 5 ms (benchmarks/results/skip_cost.md).
    """
    if not (finite.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False)):
        if finite:
            optimizer.step()
        return
    optimizer.grad_scale, optimizer.found_inf = None, finite.logical_not().float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


class HalfForward(nn.Module):
    """Runs ``module`` in half precision. Its parameters stay float32: they are the master weights.

    Every forward pass rounds a copy of the weights to fp16; the backward pass converts their gradients to float32. So the
    optimizer, the EMA, checkpoints and the gradients exchanged between ranks are float32. BatchNorms keep float32
    parameters and statistics, which torch's kernels accept together with half-precision images.
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
