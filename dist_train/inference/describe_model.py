"""Describe a model: its parts, its trainable parameters, its FLOPs. List the names of all models."""

import sys

import torch
from torch import nn

from dist_train.config.schema import Config
from dist_train.config.types import in_pixels
from dist_train.data.index import scan
from dist_train.distributed.group import Dist
from dist_train.errors import EXIT_DONE, EXIT_USER, DistTrainError
from dist_train.model.backbones import list_models
from dist_train.model.freeze import count_parameters
from dist_train.model.network import Network
from dist_train.system.terminal import report
from dist_train.training.report.flops import forward_flops
from dist_train.training.setup import build_network

COLUMNS = 100
"""The longest line of the description."""


def print_model(cfg: Config) -> int:
    """Print the model of a config. Return the exit code."""
    try:
        network = _without_numbers(cfg)
    except DistTrainError as error:
        return report(error)
    print(describe_network(cfg, network))
    return EXIT_DONE


def print_names(pattern: str) -> int:
    """Print every classifier whose name matches. Return the exit code, ``EXIT_USER`` if no name matches."""
    names = list_models(pattern)
    for source, name in names:
        print(f"{source:12}{name}")
    if not names:
        print(f"error: no model of timm or torchvision matches {pattern!r}; try a shorter one, or '*'", file=sys.stderr)
    return EXIT_DONE if names else EXIT_USER


def describe_network(cfg: Config, network: Network) -> str:
    """Return the description: totals, a table of the model's parts, and all modules."""
    module = network.module
    head = sum(module.get_parameter(name).numel() for name in network.head)
    lines = [
        f"{cfg.model.source} {cfg.model.name} at {in_pixels(network.image_size)}",
        count_parameters(module),
        f"head: {head:,} parameters in {', '.join(sorted(network.head))}",
        f"forward pass: {forward_flops(module, network.image_size, network.channels) / 1e9:.3g} GFLOP per image (a multiply-add counts as two)",
        "",
        *_table_of_parts(module),
        "",
        *repr(module).splitlines(),
    ]
    return "\n".join(_fit(line) for line in lines)


def _table_of_parts(module: nn.Module) -> list[str]:
    parts = {name: list(part.parameters()) for name, part in module.named_children()}
    parts["(its own)"] = list(module.parameters(recurse=False))
    rows = [f"{'part':32}{'parameters':>16}{'that train':>16}"]
    for name, parameters in parts.items():
        if parameters:
            total, trains = sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
            rows.append(f"{name:32}{total:>16,}{trains:>16,}")
    return rows


def _fit(line: str) -> str:
    """Cut a line that is too long for a terminal."""
    return line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}..."


def _without_numbers(cfg: Config) -> Network:
    """Build the model on the meta device, without memory for its weights. A few models need the CPU instead."""
    index = scan(cfg.data)
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                alone = Dist.alone(device)
                network = build_network(cfg, index, alone, load=False)
                network.module.float()  # LoRA's base in bfloat16 computes under autocast only
                forward_flops(network.module, network.image_size, network.channels)
            return network
        except (DistTrainError, RuntimeError):
            if device == "cpu":
                raise
    raise AssertionError("unreachable")
