"""Fine-tune vision models with torchrun and DDP. A killed run resumes and ends with bit-identical weights.

Each name is imported at its first use, so ``import dist_train`` takes milliseconds and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dist_train.api import load_run, train
    from dist_train.config import Config, load_config
    from dist_train.errors import ConfigError, DataError, DistTrainError
    from dist_train.run.result import Result

__version__ = "0.2.0"

__all__ = ["Config", "ConfigError", "DataError", "DistTrainError", "Result", "load_config", "load_run", "train"]

_HOMES = {
    "Config": "dist_train.config",
    "ConfigError": "dist_train.errors",
    "DataError": "dist_train.errors",
    "DistTrainError": "dist_train.errors",
    "Result": "dist_train.run.result",
    "load_config": "dist_train.config",
    "load_run": "dist_train.api",
    "train": "dist_train.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
