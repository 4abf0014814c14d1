"""Headers of safetensors files: 8 bytes with their length, then JSON. Without torch: the writer imports this module."""

import json
from pathlib import Path
from typing import Any

METADATA = "__metadata__"


def encoded(entries: dict[str, Any]) -> bytes:
    """Return the header with these entries, padded so that the tensors after it are aligned."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def decoded(header: bytes) -> dict[str, Any]:
    """Return the entries of a header: the metadata, and by the name of each tensor its dtype, shape and byte range.

    Raises:
        ValueError: it is damaged.
    """
    entries = json.loads(header[8:])
    if not isinstance(entries, dict):
        raise ValueError("the header is not a JSON object")
    return entries


def read_header(path: Path) -> bytes:
    """Return the header of a file, with its first 8 bytes."""
    with open(path, "rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), path.stat().st_size))


def excerpt(header: bytes, part: str) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the file that holds only one part of a state: ``"model"`` gives the weights of the model.

    If the part has values that are not tensors (``nn.Module.get_extra_state``), the metadata has their outline.

    Args:
        header: of the file with the whole state.

    Returns:
        The header of the new file, and the byte ranges (from, to) of the whole state's payload that follow it.
    """
    prefix, end = f"state.{part}.", 0
    entries = decoded(header)
    outline = dict(json.loads(entries[METADATA]["outline"])["dict"])[part]
    mine: dict[str, Any] = {}
    if any("tensor" not in item for _, item in outline["dict"] if isinstance(item, dict)) or not all(
        isinstance(item, dict) for _, item in outline["dict"]
    ):
        mine[METADATA] = {"outline": json.dumps(_renamed(outline, prefix))}
    ranges = []
    for name, entry in entries.items():
        if name.startswith(prefix):
            begin, stop = entry["data_offsets"]
            mine[name.removeprefix(prefix)] = entry | {"data_offsets": [end, end + stop - begin]}
            ranges.append((begin, stop))
            end += stop - begin
    return encoded(mine), ranges


def _renamed(outline: Any, prefix: str) -> Any:
    """Return an outline whose tensors have names without ``prefix``."""
    if isinstance(outline, list):
        return [_renamed(item, prefix) for item in outline]
    if not isinstance(outline, dict):
        return outline
    return {
        kind: content.removeprefix(prefix) if kind == "tensor" else _renamed(content, prefix)
        for kind, content in outline.items()
    }
