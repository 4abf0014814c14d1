"""Optimizers for which the host waits for the GPU in each step. Imports no torch."""

import re

from dist_train.config.choices import STRATEGIES
from dist_train.config.schema import Config

EACH = re.compile(r"c?(adamp|sgdp)|novograd[cw]?")
"""Optimizers of timm that decide on the host what to do with each weight tensor."""
FUSED = ("adam", "adamw", "sgd")
"""Of torch, with a kernel that reads on the GPU whether a step is skipped. It has none for SGD on divided weights."""


def reads_of_a_step(cfg: Config) -> str:
    """Return what the optimizer reads from the GPU in each step, in words; empty if it reads nothing."""
    name, strategy = cfg.optim.name.lower(), cfg.distributed.strategy
    if EACH.fullmatch(name):
        return "one number for each weight tensor"
    skips = cfg.train.nonfinite == "skip" or cfg.train.precision in ("fp16", "amp_fp16")
    divided = STRATEGIES.find(strategy.name).shards
    fused = name in FUSED and not (divided and name == "sgd")
    return "one number" if skips and not fused and not strategy.cpu_offload else ""


def note_on_reads(cfg: Config, device: str) -> str:
    """Return what the choice of the optimizer costs on a GPU; empty if it reads nothing in a step.

    Args:
        device: the kind of device that computes: "cpu" or "cuda".
    """
    reads = reads_of_a_step(cfg) if device == "cuda" else ""
    if not reads:
        return ""
    note = f"`optim.name` ({cfg.optim.name}) reads {reads} from the GPU in each step, and the GPU waits for the host after each"
    if EACH.fullmatch(cfg.optim.name.lower()):
        return f"{note}; adamw and lamb do not"
    scaled = cfg.train.precision in ("fp16", "amp_fp16")
    key = f"`train.precision`, {cfg.train.precision}" if scaled else "`train.nonfinite`, skip"
    return f"{note}, because a step may be skipped ({key}); adam and adamw do not"
