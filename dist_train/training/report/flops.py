"""What a model computes for an image, and what a card could compute: the two numbers of MFU (arXiv:2204.02311, appendix B)."""

import re

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dist_train.config.types import Size
from dist_train.distributed.strategies.shards import is_shared

PEAK_TFLOPS = {
    "V100": 125.0,  # float16: it has no bfloat16
    "T4": 65.0,  # the same
    "A10": 125.0,
    "A30": 165.0,
    "A40": 149.7,
    "A100": 312.0,
    "A800": 312.0,
    "RTX A6000": 154.8,
    "L4": 121.0,
    "L40": 181.0,
    "L40S": 362.0,
    "RTX 4090": 165.2,
    "RTX 5090": 209.5,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H200": 989.0,
    "H800": 989.0,
    "GH200": 989.0,
    "B200": 2250.0,
    "MI250X": 383.0,
    "MI300X": 1307.0,
}
"""Dense matrix products in bfloat16, from the makers' data sheets, without sparsity."""


def peak_flops(card: str) -> float | None:
    """Return the floating-point operations per second of a card in bfloat16; None if the table does not have it whole.

    >>> peak_flops("NVIDIA H100 80GB HBM3") == 989e12, peak_flops("NVIDIA A100-SXM4-40GB MIG 1g.5gb")
    (True, None)
    """
    if "MIG" in card or "Laptop" in card:
        return None
    longest_first = sorted(PEAK_TFLOPS, key=len, reverse=True)
    found = (name for name in longest_first if re.search(rf"(?<!\w){name}(?![A-Za-z0-9])", card))
    name = next(found, None)
    return None if name is None else PEAK_TFLOPS[name] * 1e12


def training_flops(module: nn.Module, shape: tuple[int, ...], backward: bool = True) -> float:
    """Return the floating-point operations for an image of a batch, forward (and backward), as torch counts them.

    Frozen layers cost what they do: no gradient of their weights. Computed on the meta device, without memory.

    Args:
        shape: [B, C, H, W].

    Raises:
        Exception: whatever a module raises that cannot run on the meta device.
    """
    if any(map(is_shared, module.parameters())):
        raise RuntimeError("a forward pass waits for all ranks, which hold parts of the weights")
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton

    tensors = {name: _meta(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        found = torch.func.functional_call(module, tensors, (torch.zeros(shape, device="meta"),))
        if backward:
            _total(found).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops()) / shape[0]


def _total(found: object) -> Tensor:
    return torch.stack([output.sum() for output in pytree.tree_leaves(found) if isinstance(output, Tensor)]).sum()


def _meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)


def forward_flops(module: nn.Module, image_size: Size, channels: int = 3) -> int:
    """Return the floating-point operations of the forward pass of one image in eval mode, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(module.parameters()).device
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros((1, channels, *image_size), device=device))
    return int(counter.get_total_flops())
