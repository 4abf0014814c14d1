"""The command line of ``look``."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from dist_train.inference.looking.command import main
from tests.support.commands import call


def test_help_takes_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from dist_train.cli import main; main(['look', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--images" in done.stdout, done.stderr


def test_it_draws_beside_the_run_folder_and_says_what_it_saw(tree: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tree))
    code, out, err = call(main, "--config", file, "augment.cutmix=1.0", "--images", "9")
    assert (code, err) == (0, "")
    picture = tmp_path / "runs" / "test-look.png"
    assert list((tmp_path / "runs").iterdir()) == [picture]
    with Image.open(picture) as drawn:
        assert drawn.width == 1360
    assert "60 training and 23 validation images" in out
    assert out.endswith(f"picture: {picture}\n")


def test_a_wrong_file_is_refused(tree: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tree))
    code, _, err = call(main, "--config", file, "--out", tmp_path / "look.txt")
    assert (code, "must end in .png" in err) == (2, True)
