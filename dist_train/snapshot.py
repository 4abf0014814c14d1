"""What the trainer and its checkpoint writer tell each other: a manifest, and tensors in shared memory."""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, readable without opening it.

    Attributes:
        evaluated: saved after the evaluation of its step, where one was due.
        config: what of the config decides the run's arithmetic, by dotted key.
        bytes, sha256: of ``state.pt``.
    """

    step: int
    evaluated: bool
    world_size: int
    data_fingerprint: str
    config: dict[str, Any]
    bytes: int = 0
    sha256: str = ""
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The folder's name. One saved before the evaluation of its step sorts before the one saved after it."""
        return f"step_{self.step:08d}" + ("-evaluated" if self.evaluated else "")


@dataclass(frozen=True)
class Slot:
    """Where in the shared memory a tensor lies."""

    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()

    def view(self, memory: mmap.mmap) -> Tensor:
        if self.bytes == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        flat = torch.frombuffer(memory, dtype=self.dtype, count=self.bytes // self.dtype.itemsize, offset=self.offset)
        return flat.view(self.shape)


def map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of nested dicts, lists and tuples with ``change`` applied to everything else."""
    if isinstance(value, dict):
        return {key: map_leaves(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_leaves(item, change) for item in value)
    return change(value)


@dataclass(frozen=True)
class Job:
    """One checkpoint to write: its folder's parent, its manifest, and the state with ``Slot``s for tensors."""

    folder: Path
    manifest: Manifest
    keep: int
    outline: Any
    memory_bytes: int


def fill(outline: Any, memory: mmap.mmap) -> Any:
    """The state that ``outline`` describes, its tensors being views of ``memory``."""
    return map_leaves(outline, lambda leaf: leaf.view(memory) if isinstance(leaf, Slot) else leaf)
