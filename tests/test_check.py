"""The command ``check`` and the option ``--check`` print the same. tests/inference/test_config_check.py tests the checks."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train import check, cli
from tests.support.commands import call, help_takes_no_torch
from tests.support.runs import changed, folder


@pytest.fixture
def config(tree: dict[str, Any], tmp_path: Path) -> str:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(changed(tree, run__deterministic=False)))
    return str(tmp_path / "c.yaml")


def test_help_takes_no_torch() -> None:
    assert "Does not train" in help_takes_no_torch("check")


def test_what_is_printed(config: str, tree: dict[str, Any]) -> None:
    arguments = ["--config", config, "--world-size=2", "optim.lr=0.1"]
    code, out, err = call(check.main, *arguments)
    assert (code, err) == (0, "")
    assert "global batch 12 = micro-batch 6 x 2 rank(s)" in out
    assert without_free_space(call(cli.main, "--check", *arguments)[1]) == without_free_space(out)
    assert not folder(tree).exists()


def without_free_space(out: str) -> list[str]:
    return [line for line in out.splitlines() if not line.startswith("disk:")]


@pytest.mark.parametrize("override", ["data.rot=x", "data.root=/nowhere"])
def test_a_mistake_exits_2(config: str, override: str) -> None:
    code, _, err = call(check.main, "--config", config, override)
    assert code == 2
    assert err.startswith("error: `data.ro")
