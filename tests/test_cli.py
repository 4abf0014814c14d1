"""What answers without torch, and which command lines are refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.cli import Actions, main
from dist_train.config import load_config

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
