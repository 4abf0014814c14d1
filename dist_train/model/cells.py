"""Where modules keep their tensors: a module's dict and a key in it.

A forward pass changes a buffer in place or puts another tensor in its place; either way its cell stays the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dist_train.config.types import Size, in_pixels
from dist_train.errors import ConfigError

Cell = tuple[dict[str, Any], str]
Kind = Literal["_parameters", "_buffers"]


def cells(module: nn.Module, *kinds: Kind) -> dict[str, Cell]:
    """Return the cells of all dense parameters or buffers, by their full names; a shared tensor counts once."""
    seen: set[int] = set()
    found = {}
    # Private dicts, because `getattr` would add 1.8 to 2.1 % to a step of 6 ms (benchmarks/results/shortcuts.md).
    for path, part in module.named_modules():
        for kind in kinds:
            for key, tensor in getattr(part, kind).items():
                if tensor is not None and id(tensor) not in seen and tensor.layout is torch.strided:
                    seen.add(id(tensor))
                    found[f"{path}.{key}" if path else key] = (getattr(part, kind), key)
    return found


def tensor_in(cell: Cell) -> Tensor:
    """Return the tensor that is in a cell now."""
    place, key = cell
    tensor: Tensor = place[key]
    return tensor


@contextmanager
def buffers_put_back(*modules: nn.Module) -> Iterator[None]:
    """Restore, after the block, the values of all buffers of ``modules``, also of those replaced by other tensors."""
    every = [cell for module in modules for cell in cells(module, "_buffers").values()]
    before = [(cell, tensor_in(cell), tensor_in(cell).clone()) for cell in every]
    try:
        yield
    finally:
        with torch.no_grad():
            for (place, key), tensor, value in before:
                place[key] = tensor.copy_(value)


@torch.no_grad()
def own_memory(module: nn.Module) -> None:
    """Give each expanded buffer memory of its own. An expanded tensor cannot be written, so a checkpoint could not load."""
    for place, key in cells(module, "_buffers").values():
        tensor = place[key]
        if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
            place[key] = tensor.contiguous()


@torch.no_grad()
def find_shapes(module: nn.Module, image_size: Size, channels: int = 3) -> None:
    """Run a blank image through a model with lazy layers, which have no shapes before.

    Raises:
        ConfigError: the model fails.
    """
    if not any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return
    try:
        module.eval()(torch.zeros((1, channels, *image_size)))
    except Exception as error:
        raise ConfigError(
            f"`model.name`: the model has lazy layers, and fails on an image of {in_pixels(image_size)} in eval "
            f"mode: {error}; set `data.image_size`, or give the layers their shapes"
        ) from error
