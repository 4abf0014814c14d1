"""Compute the memory that a rank needs to train large models, and check the arithmetic against runs on this machine.

    python -m benchmarks.large_models            # the table of docs/large_models.md, without allocating a model
    python -m benchmarks.large_models --check    # also trains ViT-S on two ranks by DDP, ZeRO-2 and FSDP, and compares the bytes

What is divided among ranks: Rajbhandari et al., 2020 (ZeRO), section 3.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    FakeTensorMode,
)  # private: no public name makes tensors without memory on "cpu"

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import joined
from dist_train.distributed.strategies.base import Strategy
from dist_train.training.parts.compiled import repeated_blocks
from dist_train.training.setup import build_strategy
from tests.support.ranks import collect, start_ranks

FLOAT32 = 4
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


def divided(of: Sizes, ranks: int) -> float:
    """Return the bytes of a rank with FSDP: its part, two blocks with whole weights, and one whole gradient of a block."""
    return of.parameters * (WEIGHT + GRADIENT + MOMENTS) / ranks + of.block * (2 * WEIGHT + GRADIENT)


def half_divided(of: Sizes, ranks: int) -> float:
    """Return the bytes of a rank with ZeRO-2: all weights, its part of everything, and one whole gradient of a block."""
    return of.parameters * (WEIGHT + (WEIGHT + GRADIENT + MOMENTS) / ranks) + of.block * GRADIENT


def without_images(shape: dict[str, Any], of: Sizes, ranks: int = RANKS) -> dict[str, tuple[float, float]]:
    """Return, by the way to train, the bytes that a rank needs besides activations: on its GPU, and in host memory."""
    whole, state = of.parameters, WEIGHT + GRADIENT + MOMENTS
    part = whole * state / ranks
    return {
        "DDP": (whole * state + of.fixed, 0),
        "ZeRO-2": (half_divided(of, ranks) + of.fixed, 0),
        "FSDP": (divided(of, ranks) + of.fixed, 0),
        "FSDP, `cpu_offload`": (divided(of, ranks) - part + of.fixed, part),
        "DDP with LoRA": (whole * WEIGHT + lora(shape) * state + of.fixed, 0),
    }


def table() -> list[str]:
    """Return the rows of docs/large_models.md: GB on a GPU and in its host, and the images of a micro-batch that fit besides."""
    rows = []
    for name, shape in SHAPES.items():
        of = sizes(shape)
        for way, (needed, on_host) in without_images(shape, of).items():
            free = max(GPU - needed, 0)
            fit = [int(free // each) for each in (of.per_image, of.per_image_recomputed)]
            size, host = f"{of.parameters / 1e9:.2f} B", f"{on_host * RANKS / 1e9:.1f}" if on_host else ""
            rows.append(f"| {name}, {size} | {way} | {needed / 1e9:.1f} | {host} | {fit[0]} | {fit[1]} |")
    return rows


def measured(strategy: str, images: int) -> int:
    """Return the most bytes that tensors of this rank had at a time in three steps of ViT-S, from its build on."""
    with joined(DistributedConfig(strategy=strategy)) as group, tempfile.NamedTemporaryFile(suffix=".json") as file:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            train(build_strategy(group), VisionTransformer(**CHECKED), images)
        profile.export_chrome_trace(file.name)
        events = json.loads(Path(file.name).read_text())["traceEvents"]
        return max(int(event["args"]["Total Allocated"]) for event in events if event.get("name") == "[memory]")


class WithLoss(nn.Module):
    """A model and its loss, as a strategy wraps them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(self.model(images), targets)}


def train(way: Strategy, model: nn.Module, images: int) -> None:
    way.shard(model, repeated_blocks(model))
    wrapped = way.wrap(WithLoss(model), all_used=True)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        wrapped(torch.randn(images, 3, 224, 224), torch.zeros(images, dtype=torch.int64))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()


def check(ranks: int = 2) -> list[str]:
    """Return the computed and the measured memory of ViT-S in float32, for several micro-batches."""
    of, rows = sizes(CHECKED, bf16=False), []
    said = {
        "ddp": of.parameters * (WEIGHT + GRADIENT + MOMENTS),
        "zero2": half_divided(of, ranks),
        "fsdp": divided(of, ranks),
    }
    for strategy, fixed in said.items():
        for images in (1, 8):
            found = max(collect(start_ranks(ranks, measured, strategy, images), quiet=True))
            total = fixed + images * of.per_image
            rows.append(
                f"| {strategy} | {images} | {total / 2**20:.0f} | {found / 2**20:.0f} | {total / found - 1:+.1%} |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the tensors of ViT-S on this machine")
    options = parser.parse_args()
    print("\n".join(check() if options.check else table()))


if __name__ == "__main__":
    main()
