"""Files of weights: what training programs write is read, what is none is called by its name, nothing is executed."""

import argparse
import enum
import os
from collections import OrderedDict, defaultdict
from datetime import datetime, timedelta
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dist_train.checkpoint.format import save_weights
from dist_train.errors import ConfigError
from dist_train.model.weights import load_weights
from tests.support.ranks import run_ranks
from tests.support.runs import rows, train

WEIGHTS = {"body.weight": torch.arange(6.0).view(2, 3), "body.bias": torch.ones(2, dtype=torch.float16)}


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


class Config(dict[str, Any]):
    """As yacs' CfgNode or an EasyDict: a dict with attributes."""


class Stage(enum.Enum):
    LAST = 2


class Items(list[int]):
    """torch's unpickler appends to plain lists only."""


class Runs:
    """What executes when an ordinary unpickler reads it."""

    def __init__(self, call: Any, argument: str) -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> Any:
        return self.call, (self.argument,)


def config() -> Config:
    made = Config(lr=0.1)
    made.frozen = True  # type: ignore[attr-defined]
    return made


def counts() -> defaultdict[str, list[int]]:
    made: defaultdict[str, list[int]] = defaultdict(list)
    made["seen"].append(1)
    return made


BESIDE = {
    "timm's args": argparse.Namespace(lr=0.1, output=Path("runs")),
    "a path": Path("/data"),
    "a path of Windows": PureWindowsPath("C:/data"),
    "a NumPy number": np.float64(71.2),
    "a NumPy array": np.arange(3),
    "NumPy's generator": np.random.default_rng(0),
    "a time": datetime(2026, 1, 2),
    "a duration": timedelta(1),
    "an enum": Stage.LAST,
    "a config": config(),
    "a defaultdict": counts(),
    "an optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1),
    "a function": torch.nn.functional.relu,
    "a call": Runs(print, "executed"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_tensors_is_left_out(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pth.tar"
    torch.save({"epoch": 1, "beside": BESIDE[name], "state_dict": OrderedDict(WEIGHTS)}, path)
    assert same(load_weights(path))
    assert "executed" not in capsys.readouterr().out


def test_what_is_left_out_stays_refused_by_torch_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"args": argparse.Namespace(), "model": WEIGHTS}, path)
    load_weights(path)
    with pytest.raises(Exception, match=r"argparse\.Namespace was not an allowed global"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("beside", "zipped", "blamed"),
    [
        (Items([1]), True, "tests.model.test_weights.Items"),
        (Runs(os.system, "echo executed"), True, "posix.system"),
        (argparse.Namespace(), False, "argparse.Namespace"),
    ],
    ids=["a list of its own class", "a call of the system", "the format of torch before 1.6"],
)
def test_a_refusal_names_the_class_and_a_conversion_that_works(
    tmp_path: Path, beside: Any, zipped: bool, blamed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.pth"
    torch.save({"beside": beside, "state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match=f"cannot be read safely as tensors: it holds objects of {blamed}") as error:
        load_weights(path)
    assert "executed" not in capfd.readouterr().out
    assert same(load_weights(converted(str(error.value), tmp_path)))


@pytest.mark.parametrize("key", ["model", None])
def test_a_whole_model_is_refused_with_a_conversion_that_works(tmp_path: Path, key: str | None) -> None:
    model = nn.Linear(3, 2)
    torch.save({key: model, "epoch": 3} if key else model, tmp_path / "w.pth")
    with pytest.raises(
        ConfigError, match=r"holds no named tensors, but objects of torch\.nn\.modules\.linear"
    ) as error:
        load_weights(tmp_path / "w.pth")
    assert torch.equal(load_weights(converted(str(error.value), tmp_path))["weight"], model.weight)


def converted(message: str, folder: Path) -> Path:
    """Run the command that a message ends with, in a process of its own."""
    run_ranks(1, exec, message.partition('python -c "')[2].removesuffix('"'), {})
    return folder / "w-plain.pth"


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused_with_a_conversion_that_works(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    torch.jit.script(model).save(tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="is a TorchScript program") as error:
        load_weights(tmp_path / "w.pt")
    assert torch.equal(load_weights(converted(str(error.value), tmp_path))["weight"], model.weight)


def test_the_content_decides_about_the_format(tmp_path: Path) -> None:
    save_weights(tmp_path / "safetensors.pth", WEIGHTS)
    torch.save(WEIGHTS, tmp_path / "pickled.safetensors")
    assert same(load_weights(tmp_path / "safetensors.pth"))
    assert same(load_weights(tmp_path / "pickled.safetensors"))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "is a git-lfs pointer, not the weights; fetch",
        ),
        (b"\n<!DOCTYPE html><html>", "is a web page or XML, not weights; the download went wrong"),
        (b'{"error": "not found"}', "is JSON, not weights"),
        (b"", "is empty; fetch it again"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip; unpack it first"),
        (b"run: {name: base}\n", "was not written by PyTorch: it begins with b'run: {name: base"),
    ],
)
def test_what_is_no_weights_file_is_called_by_its_name(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        load_weights(tmp_path / name)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
def test_a_file_that_is_cut_off_is_called_incomplete(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w"
    if kind == "safetensors":
        save_weights(path, WEIGHTS)
    else:
        torch.save(WEIGHTS | {"large": torch.zeros(10_000)}, path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"is damaged or incomplete \(.*\); fetch it again"):
        load_weights(path)


def test_other_content_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    for name, words in (
        ("list.pth", "holds a list, not named tensors"),
        ("empty.pth", r"holds no named tensors; it has the keys \['epoch'\]"),
        ("w.npz", "was not written by PyTorch: it begins with b'PK"),
        (".", "is a folder; check `model.weights`"),
        ("missing.pth", "does not exist; check `model.weights`"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_weights(tmp_path / name)


def test_a_run_starts_from_a_file_of_timms_training_script(tree: dict[str, Any], tmp_path: Path) -> None:
    import timm

    weights = timm.create_model("test_vit", num_classes=3).state_dict()
    content = {"epoch": 1, "arch": "test_vit", "state_dict": weights, "version": 2, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "model_best.pth.tar")
    model = {"name": "test_vit", "weights": str(tmp_path / "model_best.pth.tar")}
    run = train(tree, model=model, train__max_steps=1)
    assert len(rows(run, "train")) == 1


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
