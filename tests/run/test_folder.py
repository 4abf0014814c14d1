"""Paths in a run folder, and errors if it cannot be created."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir, must_be_a_run, must_be_readable, must_be_writable
from tests.support.denied import another_user, public_folder


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


@pytest.fixture
def runs() -> Iterator[Path]:
    """Run folders of another user, and what else a user may name."""
    with public_folder() as folder:
        for name in ("whole", "private", "closed/run", "unreadable", "empty"):
            (folder / name).mkdir(parents=True)
            if name != "empty":
                (folder / name / "config.yaml").touch()
        (folder / "file").touch()
        (folder / "link").symlink_to("nowhere")
        (folder / "loop").symlink_to("loop")
        for path in (folder / "private", folder / "closed", folder / "unreadable" / "config.yaml"):
            path.chmod(0)
        yield folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("private", "its config.yaml cannot be read: Permission denied"),
        ("unreadable", "its config.yaml cannot be read: Permission denied"),
        ("closed/run", "Permission denied"),
    ],
)
def test_a_run_of_another_user_is_told_from_a_path_that_is_none(runs: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught, another_user():
        must_be_a_run(RunDir(runs / name))
    fix = "ask the owner of the run for the right to read it"
    assert str(caught.value) == f"the run folder {runs / name} cannot be used: {reason}; {fix}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "it has no config.yaml"),
        ("none", "it does not exist"),
        ("file", "it is a file"),
        ("link", "it is a link to a folder that does not exist"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_path_that_is_no_run_folder(runs: Path, name: str, reason: str) -> None:
    must_be_a_run(RunDir(runs / "whole"))
    with pytest.raises(ConfigError) as caught:
        must_be_a_run(RunDir(runs / name))
    assert str(caught.value) == f"{runs / name} is not a run folder: {reason}; give the folder of a run"


@pytest.mark.parametrize("name", ["", "whole/checkpoints", "whole/result.json"])
def test_who_names_a_place_near_a_run_reads_which_one_is_meant(runs: Path, name: str) -> None:
    (runs / "whole" / "provenance.json").touch()
    (runs / "whole" / "checkpoints").mkdir()
    (runs / "whole" / "result.json").touch()
    with pytest.raises(ConfigError, match=rf"give the folder of a run, such as {runs}/whole$"):
        must_be_a_run(RunDir(runs / name))


def test_a_file_of_a_run_may_be_missing_but_not_unreadable(runs: Path) -> None:
    run = RunDir(runs / "whole")
    must_be_readable(run.classes)
    run.classes.touch(0o000)
    with (
        pytest.raises(ConfigError, match=r"classes.json cannot be read: Permission denied; ask the owner"),
        another_user(),
    ):
        must_be_readable(run.classes)
    run.best.mkdir()
    with pytest.raises(ConfigError, match=r"best.safetensors is a folder; restore it from a backup"):
        must_be_readable(run.best)
