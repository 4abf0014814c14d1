"""``--summary`` and ``--list-models``: what a model is made of, what of it trains, what it costs; and which there are."""

import sys

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dist_train.config import Config
from dist_train.data.index import scan
from dist_train.distributed.group import Dist
from dist_train.errors import EXIT_DONE, EXIT_USER, DistTrainError
from dist_train.model.backbones import list_models
from dist_train.model.build import Network
from dist_train.model.freeze import describe
from dist_train.system.terminal import report
from dist_train.training.setup import build_network


def main(cfg: Config) -> int:
    """Print the model of a config.

    Returns:
        The exit code.
    """
    try:
        network = _without_numbers(cfg)
    except DistTrainError as error:
        return report(error)
    print(describe_network(cfg, network))
    return EXIT_DONE


def list_names(pattern: str) -> int:
    """Print every classifier whose name matches.

    Returns:
        The exit code: that of a user's error if there is none.
    """
    names = list_models(pattern)
    for source, name in names:
        print(f"{source:12}{name}")
    if not names:
        print(f"error: no model of timm or torchvision matches {pattern!r}; try a shorter one, or '*'", file=sys.stderr)
    return EXIT_DONE if names else EXIT_USER


def describe_network(cfg: Config, network: Network) -> str:
    """The modules, a table of the model's parts, and totals."""
    module, size = network.module, network.image_size
    lines = [repr(module), "", f"{'part':24}{'parameters':>16}{'of them train':>16}"]
    rows = {name: list(part.parameters()) for name, part in module.named_children()}
    rows["(its own)"] = list(module.parameters(recurse=False))
    for name, parameters in rows.items():
        if parameters:
            total, trains = sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
            lines.append(f"{name:24}{total:>16,}{trains:>16,}")
    head = sum(module.get_parameter(name).numel() for name in network.head)
    lines += [
        f"{cfg.model.source} {cfg.model.name} at {size} x {size} px",
        describe(module),
        f"head: {head:,} parameters in {', '.join(sorted(network.head))}",
        f"forward pass: {flops(module, size) / 1e9:.3g} GFLOP for an image (a multiply-add counts as two)",
    ]
    return "\n".join(lines)


def flops(module: nn.Module, image_size: int) -> int:
    """Floating-point operations of one image's forward pass in eval mode, as torch counts them."""
    device = next(module.parameters()).device
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros((1, 3, image_size, image_size), device=device))
    return int(counter.get_total_flops())


def _without_numbers(cfg: Config) -> Network:
    """The model on the meta device, which has shapes only: the largest take no time. A few need real numbers."""
    index = scan(cfg.data)
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                alone = Dist.alone(device)
                network = build_network(cfg, index, alone, load=False)
                flops(network.module, network.image_size)
            return network
        except (DistTrainError, RuntimeError):
            if device == "cpu":
                raise
    raise AssertionError("unreachable")
