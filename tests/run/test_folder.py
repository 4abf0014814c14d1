"""Paths in a run folder, and errors if it cannot be created."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir, must_be_writable


def test_no_two_things_share_a_name(tree: dict[str, Any]) -> None:
    run = RunDir.of(parse_config(tree).run)
    assert run.path == Path(tree["run"]["output_dir"]) / "test"
    paths = [getattr(run, name) for name, value in vars(RunDir).items() if isinstance(value, property)]
    assert len(set(paths)) == len(paths) > 10
    assert {path.parent for path in paths} == {run.path}


def test_a_folder_that_cannot_be_made_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    run = RunDir(tmp_path / "runs" / "a")
    wrong = rf"`run.output_dir` \({tmp_path}/runs\): .* Not a directory; choose another"
    with pytest.raises(ConfigError, match=wrong), must_be_writable(run):
        run.path.mkdir(parents=True)


def test_an_error_that_may_pass_is_not(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Stale"), must_be_writable(RunDir(tmp_path)):
        raise OSError(116, "Stale file handle")


def test_it_needs_no_torch() -> None:
    rooms = "folder, lock, metrics_file, predictions, provenance, result"
    code = f"import sys; sys.modules['torch'] = None; from dist_train.run import {rooms}"
    subprocess.run([sys.executable, "-c", code], check=True)
