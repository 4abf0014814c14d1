"""The command line of ``probe``."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.inference.probing.command import main


@pytest.fixture
def file(tree: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.slow
def test_help_takes_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from dist_train.cli import main; main(['probe', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--models" in done.stdout, done.stderr


def test_wrong_words_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["--models", "a,a"], "names a twice"),
        (["--models", "a", "--json", str(file / "a.json")], f"--json ({file / 'a.json'}) cannot be written"),
        (["--models", "a", "data.root=nowhere"], "`data.root` (nowhere)"),
    ):
        assert main(["--config", str(file), *words]) == 2
        assert sentence in capsys.readouterr().err
