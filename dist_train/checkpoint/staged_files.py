"""Files published together with a checkpoint: they get their final names only after the checkpoint is on disk.

Otherwise a kill between the two writes could leave best weights of a step that is after the newest checkpoint. Each file
is first written as ``.NAME.CHECKPOINT.staged`` in the same folder. Without torch: the writer imports this module.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from dist_train.checkpoint.durable_file import write_durably
from dist_train.system.files import fsync_dir


def stage(path: Path, checkpoint: str, content: Iterable[bytes | memoryview]) -> None:
    """Write the staged file for ``path`` and ``checkpoint``, and flush it to disk."""
    write_durably(path.with_name(f".{path.name}.{checkpoint}.staged"), content)
    fsync_dir(path.parent)


def publish(folder: Path, checkpoint: str | None) -> None:
    """Rename the files staged for ``checkpoint`` to their final names. Remove those of checkpoints that were not saved."""
    for staged in list(folder.glob(".*.staged")):
        name, _, owner = staged.name.removeprefix(".").removesuffix(".staged").rpartition(".")
        if owner == checkpoint:
            os.replace(staged, staged.with_name(name))
        else:
            staged.unlink()
    fsync_dir(folder)
