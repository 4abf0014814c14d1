"""Parameter groups and the optimizer."""

from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from dist_train.config import OptimConfig


def build_optimizer(cfg: OptimConfig, module: nn.Module, head: frozenset[str]) -> torch.optim.Optimizer:
    """The optimizer over all that can train; each group carries its ``lr_scale``."""
    groups = param_groups(cfg, module, head)
    fused = all(p.is_cuda for group in groups for p in group["params"]) or None
    common: dict[str, Any] = {"lr": cfg.lr, "weight_decay": cfg.weight_decay, "fused": fused}
    if cfg.name == "adamw":
        return torch.optim.AdamW(groups, betas=cfg.betas, **common)
    return torch.optim.SGD(groups, momentum=cfg.momentum, nesterov=cfg.nesterov, **common)


def param_groups(cfg: OptimConfig, module: nn.Module, head: frozenset[str]) -> list[dict[str, Any]]:
    """Groups of trainable parameters with their ``weight_decay`` and ``lr_scale``.

    Layers and their order are timm's (``group_matcher``); the scale of layer i of L is
    ``layer_decay ** (L - i)`` as in BEiT, and ``head_lr_scale`` more for the head.
    """
    exempt = module.no_weight_decay() if hasattr(module, "no_weight_decay") else set()  # type: ignore[operator]
    if cfg.layer_decay < 1:
        groups = param_groups_layer_decay(
            module,
            weight_decay=cfg.weight_decay,
            no_weight_decay_list=() if cfg.decay_norm_and_bias else exempt,
            weight_decay_exclude_1d=not cfg.decay_norm_and_bias,
            layer_decay=cfg.layer_decay,
        )
    elif cfg.decay_norm_and_bias:
        groups = [{"params": [p for p in module.parameters() if p.requires_grad], "weight_decay": cfg.weight_decay}]
    else:
        groups = param_groups_weight_decay(module, cfg.weight_decay, no_weight_decay_list=exempt)
    return _split_head(groups, cfg.head_lr_scale, {p for name, p in module.named_parameters() if name in head})


def _split_head(groups: list[dict[str, Any]], scale: float, head: set[nn.Parameter]) -> list[dict[str, Any]]:
    if scale == 1:
        return [{"lr_scale": 1.0, **group} for group in groups if group["params"]]
    split = []
    for group in groups:
        for in_head, factor in ((False, 1.0), (True, scale)):
            members = [p for p in group["params"] if (p in head) == in_head]
            if members:
                split.append({**group, "params": members, "lr_scale": group.get("lr_scale", 1.0) * factor})
    return split


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its share of the learning rate ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
