"""The files of all ranks as if they were one: where each tensor's bytes are. Without torch: the writer imports this module.

The file of rank 0 has the outline of the state and the tensors that are not divided. Every file has its pieces of the divided
tensors; the metadata ``pieces`` has, by name, the place of the piece's first row and the shape of the whole tensor.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.checkpoint.sharded.header import METADATA, decoded, encoded, read_header

PIECES, OUTLINE = "pieces", "outline"
BLOCK = 8 * 2**20


@dataclass(frozen=True)
class Stretch:
    """The rows of one tensor in one file.

    Attributes:
        rows: the place of the first row, and of the row after the last one, in the whole tensor.
        at: the place of their bytes in the file.
    """

    file: Path
    rows: tuple[int, int]
    at: int
    nbytes: int


class Joined:
    """The files of a sharded checkpoint as one file with the same tensors.

    Attributes:
        header: of that file: what ``format.lay_out`` gives for the whole state.
        shapes, stretches: by tensor, its shape, and where its rows are, in their order.

    Raises:
        ValueError: the files do not belong together.
        OSError: one cannot be read.
    """

    def __init__(self, files: list[Path]) -> None:
        headers = [(file, read_header(file)) for file in files]
        parts = [(file, len(header), decoded(header)) for file, header in headers]
        first = parts[0][2]
        self.shapes: dict[str, list[int]] = {}
        self.stretches: dict[str, list[Stretch]] = {}
        entries: dict[str, Any] = {METADATA: {OUTLINE: first[METADATA][OUTLINE]}}
        end = 0
        for name, entry in first.items():
            if name != METADATA:
                shape, found = _stretches(name, parts)
                size = sum(stretch.nbytes for stretch in found)
                entries[name] = {"dtype": entry["dtype"], "shape": shape, "data_offsets": [end, end + size]}
                self.shapes[name], self.stretches[name] = shape, found
                end += size
        if unknown := [name for _, _, part in parts for name in part if name not in first]:
            raise ValueError(f"the file of rank 0 has no {unknown[0]}")
        self.header = encoded(entries)

    @property
    def outline(self) -> str:
        """Return the outline of the state."""
        return str(decoded(self.header)[METADATA][OUTLINE])

    def payload(self, begin: int, end: int) -> Iterator[bytes]:
        """Return the bytes from one place to another of the tensors, read from the files of the ranks."""
        place = 0
        for stretch in (stretch for found in self.stretches.values() for stretch in found):
            skipped, wanted = max(begin - place, 0), min(end - place, stretch.nbytes)
            place += stretch.nbytes
            if skipped < wanted:
                yield from _read(stretch.file, stretch.at + skipped, wanted - skipped)


def _stretches(name: str, parts: list[tuple[Path, int, dict[str, Any]]]) -> tuple[list[int], list[Stretch]]:
    """Return the shape of a tensor, and its rows in all files that have some.

    Raises:
        ValueError: they are not the whole tensor, each row once.
    """
    found, kinds = [], set()
    for file, start, part in parts:
        if entry := part.get(name):
            shape = entry["shape"]
            first, whole = json.loads(part[METADATA].get(PIECES, "{}")).get(name, [0, shape])
            rows = (first, first + shape[0]) if shape else (0, 1)
            begin, end = entry["data_offsets"]
            found.append(Stretch(file, rows, start + begin, end - begin))
            kinds.add((entry["dtype"], tuple(whole), tuple(shape[1:])))
    found.sort(key=lambda stretch: stretch.rows)
    edges = [0, *(edge for stretch in found for edge in stretch.rows), whole[0] if whole else 1]
    if len(kinds) > 1 or tuple(whole[1:]) != tuple(shape[1:]) or edges[::2] != edges[1::2]:
        raise ValueError(f"the rows of {name} in the files of the ranks are not the whole tensor {whole}")
    return list(whole), found


def _read(path: Path, begin: int, count: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(begin)
        while count:
            block = file.read(min(count, BLOCK))
            if not block:
                raise OSError(f"{path} has ended too early")
            yield block
            count -= len(block)
