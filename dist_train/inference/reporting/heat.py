"""Where a model looked for an output, by captum.

Maps of a convolution: Grad-CAM (Selvaraju et al., 2017). Tokens, and maps with channels last: gradient times activation, summed over
channels (HiResCAM, Draelos and Carin, 2020); to average the gradient over places would mix those of the class token with others.
The layer is the last one with a map of at least 4 x 4 places that changes the output: of a transformer with a class token, the last
one before its last attention.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_LAYERS = 40
"""So many layers from the last one back are tried."""
ENOUGH = 4
"""Rows and columns; a map with fewer shows little, and is used where no layer has more."""


@dataclass(frozen=True)
class Layer:
    """A layer with a map of the image.

    Attributes:
        rows, columns: of the map.
        tokens: how many of its tokens stand before the map; None if its output is [B, C, H, W].
    """

    module: nn.Module
    rows: int
    columns: int
    tokens: int | None


def heat_maps(model: nn.Module, images_BCHW: Tensor, outputs: list[int]) -> Tensor | None:
    """Return for each image how much each place speaks for an output, float32 [B, H, W], 0 to 1; None if no layer has a map.

    Args:
        model: in eval mode, on the device of the images.
        outputs: the column of the model's output, for each image.
    """
    images_BCHW = images_BCHW.detach().clone().requires_grad_()
    for layer in _layers_with_maps(model, images_BCHW)[:MOST_LAYERS]:
        map_BHW = _map(model, layer, images_BCHW, outputs)
        if bool((map_BHW.flatten(1).amax(1) > 0).any()):
            heat_B1HW = F.interpolate(map_BHW[:, None], images_BCHW.shape[2:], mode="bilinear", align_corners=False)
            low, high = heat_B1HW.amin((2, 3), keepdim=True), heat_B1HW.amax((2, 3), keepdim=True)
            return ((heat_B1HW - low) / (high - low).clamp_min(1e-30))[:, 0].detach().cpu()
    return None


def _map(model: nn.Module, layer: Layer, images_BCHW: Tensor, outputs: list[int]) -> Tensor:
    """Return the map of a layer, float32 [B, rows, columns], without negative values."""
    from captum import attr  # slow to import, and an extra

    values: Tensor
    if layer.tokens is None:
        values = attr.LayerGradCam(model, layer.module).attribute(images_BCHW, outputs)[:, 0]
    else:
        values = attr.LayerGradientXActivation(model, layer.module).attribute(images_BCHW, outputs).sum(-1)
        values = values.flatten(1)[:, layer.tokens :].reshape(-1, layer.rows, layer.columns)
    return values.float().clamp_min(0)


def _layers_with_maps(model: nn.Module, images_BCHW: Tensor) -> list[Layer]:
    """Return the layers that run once and have a map of more than one place: those with enough places, then the others, the last one first."""
    ran: list[tuple[nn.Module, Any]] = []

    def noted(module: nn.Module) -> Callable[..., None]:
        return lambda _, __, output: ran.append((module, output.shape if isinstance(output, Tensor) else None))

    hooks = [module.register_forward_hook(noted(module)) for module in model.modules()]
    try:
        with torch.no_grad():
            model(images_BCHW[:1])
    finally:
        for hook in hooks:
            hook.remove()
    modules = [module for module, _ in ran]
    width = getattr(model, "num_features", None)
    height_by_width = images_BCHW.shape[2] / images_BCHW.shape[3]
    found = (
        _layer(module, shape, width, height_by_width) for module, shape in reversed(ran) if modules.count(module) == 1
    )
    layers = [layer for layer in found if layer is not None]
    return sorted(layers, key=lambda layer: min(layer.rows, layer.columns) < ENOUGH)


def _layer(module: nn.Module, shape: torch.Size | None, width: int | None, height_by_width: float) -> Layer | None:
    """Return a layer by the shape of its output; None if the output is not a feature map. ``width``: channels of the features."""
    if shape is None or len(shape) not in (3, 4):
        return None
    if len(shape) == 4 and shape[3] == width != shape[1]:
        return Layer(module, shape[1], shape[2], 0) if shape[1] * shape[2] > 1 else None
    if len(shape) == 4:
        return Layer(module, shape[2], shape[3], None) if shape[2] * shape[3] > 1 else None
    grids = _grids(shape[1], height_by_width) if shape[2] == width else iter(())
    return next((Layer(module, rows, columns, before) for before, rows, columns in grids), None)


def _grids(tokens: int, height_by_width: float) -> Iterator[tuple[int, int, int]]:
    """Yield how many tokens may stand before the map, with its rows and columns: none, or class, distillation and register tokens."""
    for before in range(min(tokens - 1, 9)):
        columns = round(math.sqrt((tokens - before) / height_by_width))
        rows = (tokens - before) // max(1, columns)
        if rows * columns == tokens - before > 1 and rows == round(columns * height_by_width):
            yield before, rows, columns
