"""Import torch, timm and their dependencies in less time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dist_train.system.imports.late_compiler import import_compiler_late, keep_at_hand
from dist_train.system.imports.late_meta_kernels import import_meta_kernels_late


@contextmanager
def quick_imports() -> Iterator[None]:
    """Make the imports in the block faster.

    - The garbage collector is off: it would scan the new objects again and again, and none can be freed. After the block
      they are frozen, so that their memory pages stay shared with forked loader processes.
    - ``import wandb`` fails: timm imports wandb where it is installed, for a function that we do not use. (Our W&B uploader
      is a process of its own.)
    - torch's compiler, and its kernels for the device "meta", are imported where they are used, also after the block
      (``late_compiler``, ``late_meta_kernels``).
    """
    hidden = "wandb" not in sys.modules
    if hidden:
        sys.modules["wandb"] = None  # type: ignore[assignment]
    import_compiler_late()
    import_meta_kernels_late()
    gc.disable()
    try:
        yield
    finally:
        keep_at_hand()
        gc.freeze()
        gc.enable()
        if hidden:
            del sys.modules["wandb"]
