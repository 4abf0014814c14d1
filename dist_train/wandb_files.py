"""Reads wandb's local ``run-*.wandb`` files: what really is in an offline segment.

The file is a LevelDB log: blocks of 32 KiB, in them chunks of ``crc32, length, type, data``; a record is one
chunk of type 1 (full), or several of types 2, 3 ... 4 (first, middle, last). Each record is a protobuf message.
A file cut off by a kill is read up to the cut.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_CHUNK = struct.Struct("<IHB")
_FILE_HEADER = 7


def segments_of(folder: Path, run_id: str) -> list[Path]:
    """The ``.wandb`` files of all starts of a run, online ones too, oldest first."""
    found = [*folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"), *folder.glob(f"run-*-{run_id}/run-{run_id}.wandb")]
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def raw_records(path: Path) -> Iterator[bytes]:
    """The records' bytes, up to the first damaged one."""
    data = path.read_bytes()
    position, record = _FILE_HEADER, b""
    while position + _CHUNK.size <= len(data):
        room = _BLOCK - position % _BLOCK
        if room < _CHUNK.size:
            position += room
            continue
        _, length, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        if not 1 <= kind <= 4 or position + length > len(data):
            return
        record = data[position : position + length] if kind in (1, 2) else record + data[position : position + length]
        position += length
        if kind in (1, 4):
            yield record


def records(path: Path) -> Iterator[Any]:
    """The records as ``wandb_internal_pb2.Record`` messages."""
    from wandb.proto import wandb_internal_pb2

    for raw in raw_records(path):
        try:
            yield wandb_internal_pb2.Record.FromString(raw)
        except ValueError:  # protobuf's DecodeError: the end of a torn file
            return


def history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged in one segment; values below nested keys are left out."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = ((item.nested_key[0] if item.nested_key else item.key, item) for item in record.history.item)
            rows.append({key: json.loads(item.value_json) for key, item in items if len(item.nested_key) <= 1})
    return rows


def logged_steps(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The last step of each split among W&B history rows."""
    steps: dict[str, int] = {}
    for row in rows:
        for split in ("train", "val"):
            if f"{split}/step" in row:
                steps[split] = max(steps.get(split, -1), int(row[f"{split}/step"]))
    return steps
