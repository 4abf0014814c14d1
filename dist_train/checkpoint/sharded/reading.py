"""Read a sharded checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any

import safetensors

from dist_train.checkpoint.format import put_together
from dist_train.checkpoint.sharded.joined import Joined
from dist_train.checkpoint.sharded.piece import Rows


def load_sharded(files: list[Path], by_rows: bool = False) -> Any:
    """Return the state in the files of all ranks, on the CPU.

    Args:
        by_rows: return divided tensors as ``Rows``, so that a rank reads only the rows that it needs.
    """
    joined = Joined(files)
    opened = {file: safetensors.safe_open(file, framework="pt") for file in files}
    found: dict[str, Any] = {}
    for name, shape in joined.shapes.items():
        pieces = [(place.rows[0], partial(opened[place.file].get_tensor, name)) for place in joined.stretches[name]]
        divided = len(pieces) > 1
        rows = Rows(tuple(shape), pieces)
        found[name] = pieces[0][1]() if not divided else rows if by_rows else rows.whole()
    return put_together(joined.outline, found)
