"""Gradient clipping: one function for each ``train.clip.mode``."""

import math
from collections.abc import Callable
from functools import partial

import torch
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn

from dist_train.config.sections.train import ClipConfig

Parameters = list[nn.Parameter]
Clip = Callable[[Parameters], Tensor]
"""Clips the gradients of parameters. Returns their total norm before, float32 [] on their device, without waiting for it."""

NormClip = Callable[[list[Tensor], float], Tensor]
"""Scales gradients so that their total norm is at most a limit, and returns the norm before: ``Strategy.clip``."""


def clipping(cfg: ClipConfig | None, by_norm: NormClip, head: frozenset[nn.Parameter]) -> Clip:
    """Return the function that clips as ``train.clip`` says; None measures the norm only.

    Args:
        head: parameters that agc leaves as they are.
    """
    if cfg is None:
        return partial(_norm, by_norm, math.inf)
    match cfg.mode:
        case "norm":
            return partial(_norm, by_norm, cfg.value)
        case "value":
            return partial(_value, by_norm, cfg.value)
        case "agc":
            return partial(_agc, by_norm, cfg.value, head)


def _norm(by_norm: NormClip, limit: float, parameters: Parameters) -> Tensor:
    """Scale all gradients by one factor, so that their total norm is at most ``limit``."""
    return by_norm(_gradients(parameters), limit)


def _value(by_norm: NormClip, limit: float, parameters: Parameters) -> Tensor:
    """Cut each element of the gradients to [-limit, limit]."""
    norm = by_norm(_gradients(parameters), math.inf)
    torch.nn.utils.clip_grad_value_(parameters, limit)
    return norm


def _agc(by_norm: NormClip, factor: float, head: frozenset[nn.Parameter], parameters: Parameters) -> Tensor:
    """Scale the gradient of each row so that its norm is at most ``factor`` times that of the row's weights.

    Adaptive gradient clipping (Brock et al., 2021: NFNets), by timm. As there, the last layer is not clipped.
    """
    norm = by_norm(_gradients(parameters), math.inf)
    adaptive_clip_grad([p for p in parameters if p not in head], clip_factor=factor)
    return norm


def _gradients(parameters: Parameters) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
