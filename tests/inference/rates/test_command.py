"""The command line of ``lr_find``, from a file to a line to paste."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import load_config
from dist_train.inference.rates.command import main
from tests.support.commands import call


@pytest.fixture
def file(tree: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_it_prints_a_curve_and_what_to_paste_and_leaves_nothing(file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(main, "--config", file, "--steps", "60", "optim.name=adamw", "train.global_batch=20")
    assert (code, err) == (0, ""), out
    (pasted,) = re.findall(r"^suggestion: (optim\.lr=\S+)$", out, re.MULTILINE)
    assert 1e-6 < load_config(file, [pasted]).optim.lr < 1
    assert re.search(r"^ +rate +loss +smoothed$", out, re.MULTILINE)
    assert out.count("<- suggested") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_values_are_refused_before_any_work(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--config", str(file), "--steps", "19"])
    assert "19 steps are too few for a curve; use at least 20" in capsys.readouterr().err
    for arguments, words in (
        (["optim.lr=fast"], "`optim.lr`"),
        ([f"data.root={tmp_path / 'none'}"], "`data.root`"),
        (["--picture", "curve.txt"], "--picture (curve.txt) must end in one of .png, .svg, .pdf"),
    ):
        code, _, err = call(main, "--config", file, *arguments)
        assert (code, words in err) == (2, True), err
