"""Importing torch, timm and what they pull in, in a fifth less time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """A block that imports a lot.

    The garbage collector would look again and again through objects of which none can go; afterwards it leaves
    them alone, which also keeps their pages shared with forked loader processes. timm imports wandb where it finds it, for a function
    that is not used here (the uploader has it, in a process of its own): for the length of the block there is none.
    """
    hidden = "wandb" not in sys.modules
    if hidden:
        sys.modules["wandb"] = None  # type: ignore[assignment]
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if hidden:
            del sys.modules["wandb"]
