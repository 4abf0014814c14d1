"""State dicts on disk: read files of weights."""

import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from dist_train.errors import ConfigError
from dist_train.model.pickled_tensors import NotLoadedError, load_tensors
from dist_train.system.files import fault_of_file

STATE_DICTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
"""The keys under which training programs store the weights; the first one found is used."""

NO_WEIGHTS = {
    b"version https://git-lfs": "is a git-lfs pointer, not the weights; fetch them with `git lfs pull`",
    b"<": "is a web page or XML, not weights; the download went wrong or needs a login: fetch the file again",
    b"{": "is JSON, not weights; a sharded model is not read: save it as one .safetensors file",
    b"\x89HDF": "is an HDF5 file (Keras), which is not read; save the weights with PyTorch",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
}
"""The first bytes of a file without weights -> what the file is, and what to do."""


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from a .pth file that holds it directly or under a usual key.

    The content of the file decides the format, not its name. Other objects than tensors are skipped; nothing in the file
    is executed.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        ConfigError: the file is missing or unreadable, or holds no state dict.
    """
    start = _start(path)
    try:
        content, left_out = (_load_safetensors(path), []) if _is_safetensors(start) else load_tensors(path)
    except NotLoadedError as error:
        raise _unreadable(path, start, error) from None
    found = _state_dict(content)
    weights = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not weights:
        raise _no_tensors(path, content, left_out)
    return weights


def _start(path: Path) -> bytes:
    """Return the first bytes of a file that may hold weights.

    Raises:
        ConfigError: the file does not exist, or its first bytes show that it holds no weights.
    """
    if fault := fault_of_file(path):
        raise ConfigError(f"the weights file {path} {fault}; check `model.weights`")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise ConfigError(f"the weights file {path} cannot be read: {error.strerror}") from None
    if not start.strip():
        raise ConfigError(f"the weights file {path} is empty; fetch it again")
    for magic, fault in NO_WEIGHTS.items():
        if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(magic):
            raise ConfigError(f"the weights file {path} {fault}")
    return start


def _is_safetensors(start: bytes) -> bool:
    """Return whether a file starts like .safetensors: the length of the JSON header, then the header."""
    return start[8:9] == b"{" and start[4:8] == bytes(4)


def _state_dict(content: Any) -> dict[Any, Any]:
    """Return the state dict in a file's content: under a usual key, or the content itself."""
    if not isinstance(content, dict):
        return {}
    return next((content[key] for key in STATE_DICTS if isinstance(content.get(key), dict)), content)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise NotLoadedError(error, []) from None
    return weights


def _unreadable(path: Path, start: bytes, error: NotLoadedError) -> ConfigError:
    if "torchscript" in str(error).lower():
        convert = f"torch.save(torch.jit.load('{path}', 'cpu').state_dict(), '{_plain(path)}')"
        return ConfigError(
            f"the weights file {path} is a TorchScript program; if you trust it, convert it once: "
            f'python -c "import torch; {convert}"'
        )
    known = start.startswith((b"PK", b"\x80")) or _is_safetensors(start)
    if not known or "not in a subdirectory" in str(error):
        return ConfigError(f"the weights file {path} was not written by PyTorch: it begins with {start[:16]!r}")
    cut_off = start.startswith(b"PK") and not zipfile.is_zipfile(path)
    if cut_off or any(word in str(error) for word in ("zip archive", "EOF", "corrupted", "incomplete")):
        reason = str(error).partition(". ")[0]
        return ConfigError(f"the weights file {path} is damaged or incomplete ({reason}); fetch it again")
    blame = f"it holds objects of {', '.join(error.classes[:5])}" if error.classes else str(error)
    return ConfigError(f"the weights file {path} cannot be read safely as tensors: {blame}; {_convert(path)}")


def _no_tensors(path: Path, content: Any, left_out: list[str]) -> ConfigError:
    if left_out:
        return ConfigError(
            f"the weights file {path} holds no named tensors, but objects of {', '.join(left_out[:5])}; "
            f"{_convert(path)}"
        )
    if not isinstance(content, dict):
        return ConfigError(f"the weights file {path} holds a {type(content).__name__}, not named tensors")
    return ConfigError(f"the weights file {path} holds no named tensors; it has the keys {list(content)[:5]}")


def _convert(path: Path) -> str:
    """Return the command that converts a file with other objects into a file of tensors."""
    return (
        "if you trust the file, convert it once where its classes are installed: "
        f"python -c \"import torch; x = torch.load('{path}', 'cpu', weights_only=False); "
        "x = x.get('state_dict', x.get('model', x)) if isinstance(x, dict) else x; "
        f"torch.save(getattr(x, 'state_dict', lambda: x)(), '{_plain(path)}')\""
    )


def _plain(path: Path) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}-plain.pth")
