"""The command line of ``report``."""

import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.inference.reporting.command import main
from tests.support.commands import call


def test_help_takes_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from dist_train.cli import main; main(['report', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "report.html" in done.stdout, done.stderr


def test_it_writes_where_it_says(path: Path, tmp_path: Path) -> None:
    code, out, err = call(main, path, "--out", tmp_path / "new" / "page.html", "--images", "0")
    assert (code, out, err) == (0, f"report: {tmp_path / 'new' / 'page.html'}\n", "")
    assert (tmp_path / "new" / "page.html").is_file()


def test_too_many_images(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(path), "--images", "101"])
    assert "must be at most 100" in capsys.readouterr().err
