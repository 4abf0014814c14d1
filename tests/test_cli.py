"""What answers without torch, and what ``--check`` finds before any GPU time is spent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from dist_train import check
from dist_train.cli import Actions, main
from dist_train.config import load_config, parse_config
from dist_train.errors import ConfigError, DataError
from tests.support.runs import changed, folder


class Wide(nn.Module):
    """A model that does not do what it is asked for."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat((self.head(images.mean((2, 3))), images.new_zeros(len(images), 2)), dim=1)


WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('dist_train', run_name='__main__', alter_sys=True)"


def _command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *args], capture_output=True, text=True, timeout=60)


@pytest.fixture
def file(tree: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_help_config_and_schema_need_no_torch(file: Path, tmp_path: Path) -> None:
    assert "Exit codes: 0 done, 2 bad config or data" in _command("--help").stdout
    printed = _command("--config", str(file), "--print-config", "optim.lr=0.5")
    (tmp_path / "printed.yaml").write_text(printed.stdout)
    assert load_config(tmp_path / "printed.yaml").optim.lr == 0.5
    schema = json.loads(_command("--schema").stdout)
    assert {"run", "model", "data", "train"} <= schema["properties"].keys()
    for section, content in schema["$defs"].items():
        for key, field in content["properties"].items():
            assert "description" in field or "$ref" in field, f"{section}.{key} has no words"


def test_a_config_error_needs_no_torch_and_exits_2(file: Path) -> None:
    wrong = _command("--config", str(file), "train.epochs=0")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: `train.epochs` (0) must be greater than 0; the default is 10\n"
    missing = _command("optim.lr=1")
    assert missing.returncode == 2
    assert "--config FILE is missing" in missing.stderr


def test_a_reader_may_leave_early() -> None:
    code = "import sys\nfrom dist_train.system.terminal import piped\nsys.exit(piped(lambda: [print('x' * 9999) for _ in range(99)] and 0))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--check", "--world-size", "0"], "'0' must be a whole number above 0"),
        (["--check", "--world-size=-2"], "'-2' must be a whole number above 0"),
        (["--world-size", "4"], "--world-size goes with --check"),
    ],
)
def test_a_world_size_that_says_nothing_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--config", str(file), *arguments], Actions(*[lambda *_: 0] * 4))  # type: ignore[arg-type]
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_check_prints_the_plan_and_writes_nothing(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(parse_config(changed(tree, run__deterministic=False)), world_size=2) == 0
    told = capsys.readouterr().out
    assert "60 training and 23 validation images of 3 classes" in told
    assert "global batch 12 = micro-batch 6 x 2 rank(s) x 1 accumulated" in told
    assert "GB free at" in told
    assert not folder(tree).exists()


@pytest.mark.parametrize(
    ("override", "world_size", "error", "words"),
    [
        ({"data__root": "/nowhere"}, 1, DataError, r"`data\.root` \(/nowhere\) is not a directory"),
        ({"model__name": "test_vitt"}, 1, ConfigError, r"`model\.name` \(test_vitt\)"),
        ({"model__weights": "/nowhere.pth"}, 1, ConfigError, r"/nowhere\.pth does not exist"),
        ({}, 5, ConfigError, r"`train\.global_batch` \(12\) must be a multiple of the world size \(5\); use 10 or 15"),
        ({"train__global_batch": 64}, 1, DataError, "use at most 60"),
        ({"run__resume": "must"}, 1, ConfigError, r"`run\.resume` \(must\)"),
        (
            {"data__image_size": 33},
            1,
            ConfigError,
            r"`data\.image_size` \(33\): test_vit cannot take images of 33 x 33",
        ),
        (
            {"model__name": "tests.test_cli:Wide"},
            1,
            ConfigError,
            r"returns a tensor of shape \[1, 5\].* needs \[1, 3\]",
        ),
        ({"loss__class_weights": {"dog": 2.0}}, 1, ConfigError, r"`loss\.class_weights` \(dog\) names no class"),
        ({"run__output_dir": __file__}, 1, ConfigError, r"`run\.output_dir`: .*test_cli\.py is no folder"),
    ],
)
def test_check_finds_what_is_wrong(
    tree: dict[str, Any], override: dict[str, Any], world_size: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check.check(parse_config(changed(tree, run__deterministic=False, **override)), world_size)
