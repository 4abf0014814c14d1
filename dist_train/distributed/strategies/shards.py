"""Tensors of which each rank holds a part (torch's DTensor): this rank's part, and the whole."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor that the ranks share, in the same memory; any other tensor as it is."""
    return tensor.to_local() if is_shared(tensor) else tensor


def is_shared(value: object) -> "TypeGuard[DTensor]":
    """Return whether each rank holds only a part of ``value``."""
    return hasattr(value, "to_local")  # isinstance would need DTensor, whose import takes 0.8 s


def mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return nested dicts and lists with ``function`` applied to each tensor."""
    if isinstance(value, dict):
        return {key: mapped(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mapped(item, function) for item in value)
    return function(value) if isinstance(value, Tensor) else value
