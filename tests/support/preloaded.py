"""Import what ranks and commands may import, and build what they build of every config: once in the server they are forked from."""

import gc
import importlib
import pkgutil

from PIL import Image

import dist_train
from dist_train.config import Config
from dist_train.system.imports.fast_imports import quick_imports

UPLOADS = ("dist_train.loggers.mlflow.", "dist_train.loggers.wandb.")
"""Of these a rank imports ``logger`` alone. The others import MLflow and W&B, and an uploader is a process of its own."""


def _is_of_a_rank(name: str) -> bool:
    return not name.endswith("__main__") and (not name.startswith(UPLOADS) or name.endswith(".logger"))


with quick_imports():
    for module in pkgutil.walk_packages(dist_train.__path__, "dist_train."):
        if _is_of_a_rank(module.name):
            importlib.import_module(module.name)
    for name in ("launch.compare", "launch.slurm", "numpy.ctypeslib", "numpy.ma"):
        importlib.import_module(name)
    Image.preinit()
    Config.model_rebuild()
# As in a program that begins: tests compare what a run leaves of the collector's state.
gc.unfreeze()
