"""torch.compile, with a cache that only this user can write: what lies in it is run as code."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from dist_train.config.sections.model import CompileConfig
from dist_train.errors import ConfigError
from dist_train.system.private_folder import private_folder, refuse_shared, temporary_folder

FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""The variables that choose where compiled kernels are kept. Triton's folder is below the first one unless it is given."""


GRAPHS_PER_PART = 8
"""Graphs that a compiled part may need: training and evaluation, each with a few sizes of images and of batches."""

_changed = ExitStack()
"""Restores what ``compile_model`` has changed."""


def compile_model(model: nn.Module, cfg: CompileConfig) -> None:
    """Compile a model in place, at its first call; each size of images for itself.

    By default torch makes a graph for any size as soon as a second one comes: an evaluation before the first step would
    then change the kernels of training.

    Raises:
        ConfigError: another user can write to the folder of compiled kernels, or the model repeats no block.
    """
    own_compile_cache()
    parts = repeated_blocks(model) if cfg.blocks else [model]
    if not parts:
        raise ConfigError(
            "`model.compile.blocks` (true): the model has no `nn.Sequential` or `nn.ModuleList` of blocks of one class; "
            "set it to false"
        )
    # All parts share the code that calls them, and torch counts graphs by code. Beyond its limit it compiles no more.
    limit = torch._dynamo.config.recompile_limit + GRAPHS_PER_PART * len(parts)
    _changed.enter_context(torch._dynamo.config.patch(recompile_limit=limit))
    if cfg.blocks:  # else torch cuts each block in two, to exchange gradients within one
        _changed.enter_context(torch._dynamo.config.patch(optimize_ddp=False))
    for part in parts:
        part.compile(mode=cfg.mode, dynamic=False)


@contextmanager
def restored_compiler() -> Iterator[None]:
    """Restore the compiler's settings that ``compile_model`` changes, after the block. A block that compiles nothing imports nothing."""
    try:
        yield
    finally:
        _changed.close()


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the modules of every innermost container whose modules are of one class, at least two, and have parts themselves."""
    found: list[nn.Module] = []
    for module in model.modules():
        children = list(module.children())
        alike = len(children) > 1 and len({type(child) for child in children}) == 1
        if alike and isinstance(module, nn.Sequential | nn.ModuleList) and any(children[0].children()):
            found += children
    return [block for block in found if not set(found) & set(block.modules()) - {block}]


def own_compile_cache() -> None:
    """Let torch keep compiled kernels in this user's temporary folder, or check the folder that the user chose.

    torch's own default is a name that anybody can create first; an import of its compiler sets the variable to it.
    """
    default = os.path.join(tempfile.gettempdir(), "torchinductor_")
    if os.environ.get(FOLDERS[0], default).startswith(default):
        folder = private_folder(temporary_folder(), "TMPDIR") / "compiled"
        os.environ[FOLDERS[0]] = str(private_folder(folder, "TMPDIR"))
    for name in FOLDERS:
        if chosen := os.environ.get(name):
            refuse_shared(chosen, name)
