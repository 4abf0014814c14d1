"""Files of weights: there and back, under every usual key, and nothing executed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.errors import ConfigError
from dist_train.model.weights import load_weights, save_weights


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    weights = {"turned": base.T, "tied": base, "half": base.bfloat16(), "count": torch.tensor(7)}
    weights["trained"] = torch.ones(2, requires_grad=True)
    save_weights(tmp_path / "w.safetensors", weights)
    save_weights(tmp_path / "w.safetensors", weights)  # over the old ones
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.keys() == weights.keys()
    for name, value in weights.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value), name
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("key", ["", "state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema"])
def test_weights_are_found_bare_and_under_the_usual_keys(tmp_path: Path, key: str) -> None:
    state: dict[str, Any] = {"a.weight": torch.ones(2), "a.name": "no tensor"}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "w.pth")
    assert list(load_weights(tmp_path / "w.pth")) == ["a.weight"]


def test_a_file_without_tensors_is_an_error(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"w.pth holds no tensors under names; it has \['epoch'\]"):
        load_weights(tmp_path / "w.pth")


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("w.pth", "cannot be read safely"),
        ("w.safetensors", "cannot be read safely"),
        ("text.bin", "cannot be read safely"),
        ("list.bin", "holds a list, and no tensors under names"),
        ("folder", "is a folder; check `model.weights`"),
    ],
)
def test_code_and_garbage_are_refused(
    tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if name.endswith("pth"):
        torch.save({"state_dict": {"a": torch.zeros(1)}, "bomb": Bomb()}, path)
    elif name == "list.bin":
        torch.save([torch.zeros(1)], path)
    elif name == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"run: {name: base}\n")
    with pytest.raises(ConfigError, match=words):
        load_weights(path)
    assert "executed" not in capsys.readouterr().out
