"""Collectives of any dtype, and of many tensors in one message. Every rank must call them, with the same shapes and dtypes."""

import torch
import torch.distributed as dist
from torch import Tensor

# torch 2.14 renamed this function; the old name warns.
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
"""(output [W * N], tensor [N]): the tensors of all ranks, one after the other."""


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a contiguous tensor, uint8 [N]: gloo and NCCL do not know every dtype."""
    return tensor.view(-1).view(torch.uint8)


def broadcast_together(tensors: list[Tensor]) -> None:
    """Copy the tensors of rank 0 to all ranks, in place, in one message."""
    tensors = sorted(tensors, key=Tensor.element_size, reverse=True)  # each begins at a multiple of its element size
    together = torch.cat([as_bytes(tensor.detach().contiguous()) for tensor in tensors])
    dist.broadcast(together, src=0)
    for tensor, content in zip(tensors, torch.split(together, [tensor.nbytes for tensor in tensors]), strict=True):
        tensor.copy_(content.view(tensor.dtype).view(tensor.shape))
