"""Nested states as safetensors files: the layout of the tensors, and an outline to rebuild the nesting.

The format is the public one (8 bytes with the header's length, a JSON header, the tensors without gaps), so any
safetensors reader opens a checkpoint, and reading executes no code. All other values are in the header's metadata.
"""

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dist_train.checkpoint.sharded.header import encoded, excerpt
from dist_train.checkpoint.sharded.piece import Piece
from dist_train.errors import ConfigError
from dist_train.system.files import atomic_write

DTYPES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int16: "I16", torch.uint8: "U8", torch.int8: "I8", torch.bool: "BOOL",
    torch.complex64: "C64", torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}  # fmt: skip

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Layout:
    """The file to write for a state: its header, and each tensor with its byte offset after the header."""

    header: bytes
    tensors: list[tuple[int, Tensor]]
    names: list[str]
    """Of the tensors: their place in the state, as in ``state.model.head.weight``."""
    payload_bytes: int
    divided: bool = False
    """Whether it is the file of one rank, with some rows of the tensors."""


def lay_out(state: Any, rank: int = 0) -> Layout:
    """Return the layout of the file for nested dicts, lists and tuples of tensors, bytes and plain values.

    Copies no tensor. If tensors are divided (``Piece``), it is the file of one rank.

    Args:
        rank: ranks other than 0 write only their pieces.

    Raises:
        ConfigError: a value is of a kind that the file cannot hold.
    """
    tensors: dict[str, Tensor] = {}
    pieces: dict[str, Piece] = {}
    outline = _outline(state, "state", tensors, pieces)
    metadata = {} if rank else {"outline": json.dumps(outline)}
    if pieces:
        metadata["pieces"] = json.dumps({name: [piece.begin, piece.shape] for name, piece in pieces.items()})
    if rank:
        tensors = {name: piece.tensor for name, piece in pieces.items()}
    header: dict[str, Any] = {"__metadata__": metadata}
    placed, end = [], 0
    # Wide dtypes first: then every tensor is aligned. The format does not allow gaps for alignment.
    in_order = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    for name, tensor in in_order:
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        placed.append((end, tensor))
        end += tensor.nbytes
    return Layout(encoded(header), placed, [name for name, _ in in_order], end, bool(pieces))


def copy_into(memory: Any, layout: Layout) -> None:
    """Copy the tensors to their offsets in a writable buffer. Waits for the GPU once, if tensors are on one."""
    for offset, tensor in layout.tensors:
        copy_tensor(memory, offset, tensor)
    if any(tensor.is_cuda for _, tensor in layout.tensors):
        torch.cuda.synchronize()


def copy_tensor(memory: Any, offset: int, tensor: Tensor) -> None:
    """Copy one tensor to its offset in a writable buffer. Does not wait for a GPU if the buffer is pinned."""
    if tensor.nbytes:
        place = torch.frombuffer(memory, dtype=tensor.dtype, count=math.prod(tensor.shape), offset=offset)
        place.view(tensor.shape).copy_(tensor, non_blocking=True)


def put_together(outline: str, tensors: dict[str, Tensor]) -> Any:
    """Return the state that ``lay_out`` received."""
    return _fill(json.loads(outline), tensors)


def _outline(value: Any, name: str, tensors: dict[str, Tensor], pieces: dict[str, Piece]) -> Any:
    """Return JSON that preserves integer keys, tuples, and tensors (as their names), which plain JSON would lose."""
    if isinstance(value, Piece):
        pieces[name], value = value, value.tensor
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.dtype not in DTYPES:
            raise _not_to_be_saved(name, f"a tensor of {value.dtype}, {value.layout}", "use another format")
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, PLAIN)]:
            raise _not_to_be_saved(name, f"a dict with the key {odd[0]!r}", "use text or numbers as keys")
        return {"dict": [[key, _outline(item, f"{name}.{key}", tensors, pieces)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_outline(item, f"{name}.{place}", tensors, pieces) for place, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if not isinstance(value, PLAIN):
        fix = "use tensors, numbers, text and bytes, and lists, tuples and dicts of them"
        raise _not_to_be_saved(name, f"a {type(value).__name__}", fix)
    return value


def _not_to_be_saved(name: str, kind: str, fix: str) -> ConfigError:
    return ConfigError(
        f"`{name.removeprefix('state.')}` is {kind}, which a checkpoint cannot hold: {fix}, or keep it out of `state_dict` "
        "(a buffer: `persistent=False`)"
    )


def _fill(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "bytes":
            return base64.b64decode(content)
        case "dict":
            return {key: _fill(item, tensors) for key, item in content}
        case "tuple":
            return tuple(_fill(item, tensors) for item in content)
        case _:
            return [_fill(item, tensors) for item in content]


def read_weights(path: Path) -> dict[str, Any]:
    """Return the state dict in a file of weights: tensors on the CPU, and the extra state of modules that have some."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        outline = (file.metadata() or {}).get("outline")
    return tensors if outline is None else put_together(outline, tensors)


def save_weights(path: Path, state: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write a state dict, with the extra state of modules if there is some, to a file of weights, atomically.

    Args:
        metadata: of the file; transformers wants ``{"format": "pt"}``.
    """
    with atomic_write(path) as file:
        file.write(weights_file(state, metadata))


def weights_file(state: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """Return the content of the file that ``save_weights`` writes."""
    if not all(isinstance(value, Tensor) for value in state.values()):
        return _with_outline(state)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    return bytes(safetensors.torch.save(plain, metadata))


def _with_outline(state: dict[str, Any]) -> bytes:
    layout = lay_out({"model": state})
    payload = bytearray(layout.payload_bytes)
    if payload:
        copy_into(payload, layout)
    head, ranges = excerpt(layout.header, "model")
    return head + b"".join(payload[begin:end] for begin, end in ranges)


def read_safetensors(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the outline from the metadata, and the tensors on the CPU, of a checkpoint."""
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()["outline"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
