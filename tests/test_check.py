"""The command ``check``, and ``--check``: they say the same. What is checked is in tests/training/test_preflight.py."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train import check, cli
from tests.support.commands import help_takes_no_torch
from tests.support.runs import changed, folder


@pytest.fixture
def config(tree: dict[str, Any], tmp_path: Path) -> str:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(changed(tree, run__deterministic=False)))
    return str(tmp_path / "c.yaml")


def test_help_takes_no_torch() -> None:
    assert "Trains nothing, writes" in help_takes_no_torch("check")


def test_what_is_printed(config: str, tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--config", config, "--world-size=2", "optim.lr=0.1"]) == 0
    out = capsys.readouterr().out
    assert "global batch 12 = micro-batch 6 x 2 rank(s)" in out
    assert cli.main(["--check", "--config", config, "--world-size=2", "optim.lr=0.1"]) == 0
    without_space = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("disk:")]
    assert without_space == [line for line in out.splitlines() if not line.startswith("disk:")]
    assert not folder(tree).exists()


@pytest.mark.parametrize("override", ["data.rot=x", "data.root=/nowhere"])
def test_a_mistake_exits_2(config: str, capsys: pytest.CaptureFixture[str], override: str) -> None:
    assert check.main(["--config", config, override]) == 2
    assert capsys.readouterr().err.startswith("error: `data.ro")
