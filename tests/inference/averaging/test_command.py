"""The command line of ``average``."""

import subprocess
import sys
from pathlib import Path


def test_help_is_quick_and_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from dist_train.cli import main; sys.exit(main(['average', '--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0
    assert "--greedy" in done.stdout
