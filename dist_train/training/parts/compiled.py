"""torch.compile, with a cache that only this user can write: what lies in it is run as code."""

import os
import tempfile

from torch import nn

from dist_train.system.private_folder import private_folder, refuse_shared, temporary_folder

FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""The variables that choose where compiled kernels are kept. Triton's folder is below the first one unless it is given."""


def compile_model(model: nn.Module) -> None:
    """Compile a model in place, at its first call.

    Raises:
        ConfigError: another user can write to the folder of compiled kernels.
    """
    own_compile_cache()
    model.compile()


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
