"""State dicts on disk: read and write files of weights."""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dist_train.errors import ConfigError
from dist_train.system.files import atomic_write


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a state dict as .safetensors, atomically."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(plain))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from a .pth that holds one (bare, or under a usual key).

    Raises:
        ConfigError: the file is missing or unreadable, or is no state dict.
    """
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"the weights file {path} {fault}; check `model.weights`")
    try:
        content = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - unpicklers raise whatever other bytes lead them to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"the weights file {path} cannot be read safely as tensors: {reason}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"the weights file {path} holds a {type(content).__name__}, and no tensors under names")
    for key in ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise ConfigError(f"the weights file {path} holds no tensors under names; it has {list(content)[:5]}")
    return weights
