"""``python -m dist_train.fetch``; what it downloads is in tests/model/test_pretrained.py."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.fetch import main
from tests.support.commands import help_takes_no_torch
from tests.support.runs import changed


def test_help_is_quick() -> None:
    assert "pretrained weights" in help_takes_no_torch("fetch")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model__pretrained": False}, "nothing to fetch: `model.pretrained` is false\n"),
        ({"model__pretrained": True, "model__weights": "w.pth"}, "the run starts from `model.weights` (w.pth)\n"),
    ],
)
def test_there_may_be_nothing_to_fetch(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, Any], words: str
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(changed(tree, **keys)))
    assert main(["--config", str(tmp_path / "run.yaml")]) == 0
    assert capsys.readouterr().out.endswith(words)


def test_a_mistake_in_the_config_exits_2(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    assert main(["--config", str(tmp_path / "run.yaml"), "model.nam=x"]) == 2
    assert capsys.readouterr().err == "error: `model.nam` is not a key: did you mean `model.name`?\n"
