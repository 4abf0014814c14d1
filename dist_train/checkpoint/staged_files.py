"""Files of a run that belong to a checkpoint: they appear under their names when it is on disk, not before.

Else a kill between the two would leave the best weights of steps that the next attempt does not know of, and may not
make again. They are written beside their place first, as ``.NAME.CHECKPOINT.staged``. No torch: the writer uses it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from dist_train.system.files import fsync_dir


def stage(path: Path, checkpoint: str, content: Iterable[bytes | memoryview]) -> None:
    """Write what ``path`` becomes with ``checkpoint``, durably."""
    with open(path.with_name(f".{path.name}.{checkpoint}.staged"), "wb") as file:
        for piece in content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    fsync_dir(path.parent)


def publish(folder: Path, checkpoint: str | None) -> None:
    """Give what was staged for ``checkpoint`` its name; remove what was staged for others, which never came about."""
    for staged in list(folder.glob(".*.staged")):
        name, _, owner = staged.name.removeprefix(".").removesuffix(".staged").rpartition(".")
        if owner == checkpoint:
            os.replace(staged, staged.with_name(name))
        else:
            staged.unlink()
    fsync_dir(folder)
