"""DistributedDataParallel: accumulation without synchronisation, and settled gradient buckets."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# The option got a new name in torch 2.14, and the old one warns.
_NO_BUFFER_SYNC: dict[str, Any] = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}


def no_sync(wrapped: nn.Module) -> AbstractContextManager[None]:
    """Accumulate gradients locally: all but the last micro-batch of a step."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


def settle_buckets(wrapped: nn.Module, images: Tensor) -> None:
    """Let DDP rebuild its gradient buckets now rather than after the first step.

    DDP orders its buckets anew after the first backward pass of a process. That changes the order in which
    gradients are summed, so that above two ranks a resumed run would differ from an undisturbed one in the
    last bit. One pass on zeros at every start puts the rebuild behind us; it leaves nothing else behind.

    Args:
        images: zeros of the shape that training uses, [B, C, H, W].
    """
    if not isinstance(wrapped, DistributedDataParallel):
        return
    buffers = [buffer.clone() for buffer in wrapped.buffers()]
    for _ in range(2):  # the rebuild happens in the forward pass after the first backward pass
        _total(wrapped(images)).backward()  # type: ignore[no-untyped-call]
    for buffer, before in zip(wrapped.buffers(), buffers, strict=True):
        buffer.copy_(before)
    for parameter in wrapped.parameters():
        parameter.grad = None


def _total(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs.float().sum()
    return sum((_total(item) for item in outputs), torch.zeros(()))
