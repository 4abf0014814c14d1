"""LoRA's adapters merged into the weights beside them: W + (alpha / rank) B A. A model without LoRA stays as it is.

A run evaluates the merged model and publishes its weights. They are those of a plain model, without peft and without the
base weights, for ``evaluate``, ``predict``, ``export``, ``branch`` and other programs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ADAPTER = "default"
"""peft's name of the only adapter of a layer."""


def is_adapted(part: nn.Module) -> bool:
    """Return whether a layer has an adapter."""
    return hasattr(part, "lora_A") and hasattr(part, "base_layer")


@contextmanager
def merged(module: nn.Module) -> Iterator[None]:
    """Merge all adapters for the block. Afterwards the base weights are the same tensors as before, so all bits are."""
    layers: list[Any] = [part for part in module.modules() if is_adapted(part)]
    kept = [layer.base_layer.weight.data for layer in layers]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.base_layer.weight.data = weight.float() + layer.get_delta_weight(ADAPTER).float()
                layer.merged_adapters.append(ADAPTER)
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.base_layer.weight.data = weight
            layer.merged_adapters.clear()


@torch.no_grad()
def plain_state(module: nn.Module, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the state of the plain model into which the adapters of ``module`` are merged: its names, in float32.

    Args:
        state: the state of ``module``, if it is not on the device of ``module``.
    """
    state = dict(module.state_dict() if state is None else state)
    adapted: dict[str, Any] = {path: part for path, part in module.named_modules() if is_adapted(part)}
    if not adapted:
        return state
    for path, part in adapted.items():
        own = [name for name in state if name.startswith(f"{path}.")]
        layer = {name.removeprefix(f"{path}."): state.pop(name) for name in own}
        base = {name: value for name, value in layer.items() if name.startswith("base_layer.")}
        weight = base["base_layer.weight"]
        base["base_layer.weight"] = weight.float() + part.get_delta_weight(ADAPTER).float().to(weight.device)
        state |= {f"{path}.{name.removeprefix('base_layer.')}": value for name, value in base.items()}
    return {name: _widened(value) for name, value in state.items()}


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
