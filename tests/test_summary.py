"""The command ``summary`` and the option ``--summary`` print the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train import cli, summary
from tests.support.commands import call, help_takes_no_torch
from tests.support.runs import changed


@pytest.fixture
def config(tree: dict[str, Any], tmp_path: Path) -> str:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(changed(tree, model__freeze="backbone")))
    return str(tmp_path / "c.yaml")


def test_help_takes_no_torch() -> None:
    assert "FLOPs of a forward" in help_takes_no_torch("summary")


def test_what_is_printed(config: str) -> None:
    arguments = ["--config", config, "model.head.name=mlp", "model.head.hidden=[8]"]
    code, out, err = call(summary.main, *arguments)
    assert (code, err) == (0, "")
    trains = 64 * 8 + 8 + 8 * 3 + 3
    assert out.splitlines()[1].startswith(f"{trains:,} of ")
    assert f"head: {trains:,} parameters in head.0.bias, head.0.weight, head.3.bias, head.3.weight" in out
    assert "(0): Linear(in_features=64, out_features=8, bias=True)" in out
    assert "GFLOP per image" in out
    assert call(cli.main, "--summary", *arguments) == (0, out, "")


def test_a_mistake_in_the_config_exits_2(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main(["--config", config, "model.nam=x"]) == 2
    assert "did you mean `model.name`?" in capsys.readouterr().err
