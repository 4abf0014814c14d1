"""Nested states as safetensors files: the layout of the tensors, and an outline to rebuild the nesting.

The format is the public one (8 bytes with the header's length, a JSON header, the tensors without gaps), so any
safetensors reader opens a checkpoint, and reading executes no code. All other values are in the header's metadata.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

DTYPES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int16: "I16", torch.uint8: "U8", torch.int8: "I8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """The file to write for a state: its header, and each tensor with its byte offset after the header."""

    header: bytes
    tensors: list[tuple[int, Tensor]]
    payload_bytes: int


def lay_out(state: Any) -> Layout:
    """Return the layout of the file for nested dicts, lists and tuples of tensors and plain values. Copies no tensor."""
    tensors: dict[str, Tensor] = {}
    outline = _outline(state, "state", tensors)
    header: dict[str, Any] = {"__metadata__": {"outline": json.dumps(outline)}}
    placed, end = [], 0
    # Wide dtypes first: then every tensor is aligned. The format does not allow gaps for alignment.
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].itemsize):
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        placed.append((end, tensor))
        end += tensor.nbytes
    return Layout(_encoded(header), placed, end)


def excerpt(layout: Layout, part: str) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the file that holds one part of a state only: ``"model"`` gives the weights of the model.

    Returns:
        The file's header, and the byte ranges (from, to) of the whole state's payload that follow the header.
    """
    prefix, end = f"state.{part}.", 0
    header: dict[str, Any] = {}
    ranges = []
    for name, entry in json.loads(layout.header[8:]).items():
        if name.startswith(prefix):
            begin, stop = entry["data_offsets"]
            header[name.removeprefix(prefix)] = entry | {"data_offsets": [end, end + stop - begin]}
            ranges.append((begin, stop))
            end += stop - begin
    return _encoded(header), ranges


def _encoded(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def copy_into(memory: Any, layout: Layout) -> None:
    """Copy the tensors to their offsets in a writable buffer. Waits for the GPU once, if tensors are on one."""
    for offset, tensor in layout.tensors:
        if tensor.nbytes:
            count = math.prod(tensor.shape)
            place = torch.frombuffer(memory, dtype=tensor.dtype, count=count, offset=offset)
            place.view(tensor.shape).copy_(tensor, non_blocking=True)
    if any(tensor.is_cuda for _, tensor in layout.tensors):
        torch.cuda.synchronize()


def put_together(outline: str, tensors: dict[str, Tensor]) -> Any:
    """Return the state that ``lay_out`` received."""
    return _fill(json.loads(outline), tensors)


def _outline(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON that preserves integer keys, tuples, and tensors (as their names), which plain JSON would lose."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _outline(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_outline(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    return value


def _fill(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {key: _fill(item, tensors) for key, item in content}
        case "tuple":
            return tuple(_fill(item, tensors) for item in content)
        case _:
            return [_fill(item, tensors) for item in content]


def read_safetensors(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the outline from the metadata, and the tensors on the CPU, of a checkpoint."""
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()["outline"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
