"""Compute the memory that a rank needs to train large models, and check the arithmetic against one run on this machine.

    python -m benchmarks.large_models            # the table, without allocating a model
    python -m benchmarks.large_models --check    # also trains ViT-S by DDP, in processes of its own, and compares the peaks

DDP with or without LoRA is what dist_train does. ZeRO-1 and FSDP are arithmetic: what sharding would save (Rajbhandari
et al., 2020: ZeRO, section 3; FSDP2 keeps two blocks gathered, the one that computes and the next).
"""

import argparse
import ctypes
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    FakeTensorMode,
)  # private: no public name makes tensors without memory on "cpu"

FLOAT32, BF16 = 4, 2
WEIGHT, GRADIENT, MOMENTS = 4, 4, 8
"""Bytes for each parameter, with AdamW in float32."""

GPU = 75e9
"""Bytes of an 80 GB GPU that tensors can use; CUDA, NCCL and gaps between tensors take the rest (an estimate)."""

RANKS = 8
SHAPES: dict[str, dict[str, Any]] = {
    "ViT-L/16": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "patch_size": 16},
    "ViT-g/14": {"embed_dim": 1408, "depth": 40, "num_heads": 16, "patch_size": 14, "mlp_ratio": 48 / 11},
    "2.7 B": {"embed_dim": 2560, "depth": 34, "num_heads": 32, "patch_size": 14},
}
CHECKED: dict[str, Any] = {"embed_dim": 384, "depth": 12, "num_heads": 6, "patch_size": 16}
RANK_OF_LORA = 16


@dataclass(frozen=True)
class Sizes:
    """What the arithmetic needs to know of a model.

    Attributes:
        parameters, block: numbers of parameters: of the model, of one of its blocks.
        fixed: bytes that a forward pass keeps for the backward pass at any batch: weights cast to bf16.
        per_image: bytes that it keeps for each image.
        per_image_recomputed: the same with ``model.grad_checkpointing``: the input of each block, and one whole block.
    """

    parameters: int
    block: int
    fixed: int
    per_image: int
    per_image_recomputed: int


def kept_bytes(model: nn.Module, inputs: Tensor, bf16: bool) -> int:
    """Return the bytes of all tensors that a forward pass keeps, parameters aside; views of one memory count once."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, bf16),
    ):
        result = model(inputs)
    del result
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def line(model: nn.Module, shape: tuple[int, ...], bf16: bool) -> tuple[int, int]:
    """Return the bytes that a forward pass keeps at any batch, and those for each image."""
    one, two = (kept_bytes(model, torch.zeros(images, *shape, requires_grad=True), bf16) for images in (1, 2))
    return 2 * one - two, two - one


def sizes(shape: dict[str, Any], bf16: bool = True) -> Sizes:
    """Return the sizes of a ViT at 224 px, computed on tensors without memory."""
    with torch.device("meta"):
        model = VisionTransformer(**shape, weight_init="skip")
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        fixed, per_image = line(model, (3, 224, 224), bf16)
        tokens, width = model.pos_embed.shape[1:]
        _, block = line(model.blocks[0], (tokens, width), bf16)
    depth = len(model.blocks)
    recomputed = per_image - (depth - 1) * block + depth * tokens * width * FLOAT32
    return Sizes(count(model.parameters()), count(model.blocks[0].parameters()), fixed, per_image, recomputed)


def count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def lora(shape: dict[str, Any], rank: int = RANK_OF_LORA) -> int:
    """Return how many parameters adapters of ``qkv`` and both layers of the MLP have (Hu et al., 2021: LoRA)."""
    width, hidden = shape["embed_dim"], int(shape["embed_dim"] * shape.get("mlp_ratio", 4))
    return int(shape["depth"] * rank * ((width + 3 * width) + 2 * (width + hidden)))


def without_images(shape: dict[str, Any], of: Sizes, ranks: int = RANKS) -> dict[str, float]:
    """Return the bytes that a rank needs besides activations, by the way to train."""
    whole, state = of.parameters, WEIGHT + GRADIENT + MOMENTS
    return {
        "DDP": whole * state + of.fixed,
        "ZeRO-1": whole * (WEIGHT + GRADIENT + MOMENTS / ranks) + of.fixed,
        "FSDP": whole * state / ranks + of.block * (2 * BF16 + GRADIENT),
        "DDP with LoRA": whole * WEIGHT + lora(shape) * state + of.fixed,
    }


def table() -> list[str]:
    """Return the rows of docs/large_models.md: GB, and the images of a micro-batch that fit besides."""
    rows = []
    for name, shape in SHAPES.items():
        of = sizes(shape)
        for way, needed in without_images(shape, of).items():
            free = max(GPU - needed, 0)
            fit = [int(free // each) for each in (of.per_image, of.per_image_recomputed)]
            rows.append(f"| {name}, {of.parameters / 1e9:.2f} B | {way} | {needed / 1e9:.1f} | {fit[0]} | {fit[1]} |")
    return rows


def measured(images: int) -> int:
    """Return the peak of this process's memory in three steps of DDP on one rank, less that of a tiny model, in bytes."""
    ctypes.CDLL("libc.so.6").mallopt(-3, 65536)  # M_MMAP_THRESHOLD: large tensors that are freed go back to the kernel
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    train(VisionTransformer(embed_dim=48, depth=1, num_heads=3), 1)  # loads what any first step loads
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = peak()
    train(VisionTransformer(**CHECKED), images)
    return peak() - before


def train(model: nn.Module, images: int) -> None:
    wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        outputs = wrapped(torch.randn(images, 3, 224, 224))
        nn.functional.cross_entropy(outputs, torch.zeros(images, dtype=torch.int64)).backward()
        optimizer.step()
        optimizer.zero_grad()


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def check() -> list[str]:
    """Return the computed and the measured memory of ViT-S in float32, for several micro-batches."""
    of, rows = sizes(CHECKED, bf16=False), []
    for images in (1, 8, 24):
        command = [sys.executable, "-m", "benchmarks.large_models", "--measure", str(images)]
        found = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        said = of.parameters * (WEIGHT + GRADIENT + MOMENTS) + images * of.per_image
        rows.append(f"| {images} | {said / 2**20:.0f} | {found / 2**20:.0f} | {said / found - 1:+.1%} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the memory of ViT-S on this machine")
    parser.add_argument("--measure", type=int, metavar="IMAGES", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measured(options.measure))
    else:
        print("\n".join(check() if options.check else table()))


if __name__ == "__main__":
    main()
