"""The git state of the code, in a repository made for the test."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dist_train.run.git_state import CODE, COPY_NOTE, MOST_NAMES, git_diff, git_state


def git(folder: Path, *command: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", "-C", folder, *who, *command], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (tmp_path / "dist_train").mkdir()
    (tmp_path / "dist_train" / "__init__.py").write_text("")
    (tmp_path / ".gitignore").write_text("runs/\nsite-packages/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert git_state(checkout) == {"commit": commit, "dirty": False, "untracked": {"count": 0, "names": []}}
    assert git_diff(checkout, "dist_train") == ""


def test_changes_and_untracked_files_are_told_apart(checkout: Path) -> None:
    (checkout / "dist_train" / "__init__.py").write_text("changed = True\n")
    (checkout / "my model.py").write_text("")
    (checkout / "data").mkdir()
    for number in range(3):
        (checkout / "data" / f"{number}.jpg").write_text("")
    state = git_state(checkout)
    assert state is not None
    assert state["dirty"] is True
    assert state["untracked"] == {"count": 2, "names": ["data/", "my model.py"]}, "a folder is one name"
    assert "+changed = True" in git_diff(checkout, "dist_train")


def test_many_names_are_counted(checkout: Path) -> None:
    for number in range(MOST_NAMES + 30):
        (checkout / f"{number:03d}.py").write_text("")
    state = git_state(checkout)
    assert state is not None
    assert state["untracked"]["count"] == MOST_NAMES + 30
    assert len(state["untracked"]["names"]) == MOST_NAMES


def test_a_package_inside_another_checkout_is_not_that_checkouts(checkout: Path, tmp_path: Path) -> None:
    installed = checkout / "site-packages"
    shutil.copytree(checkout / "dist_train", installed / "dist_train")
    assert git_state(installed) is None


def test_a_copy_of_the_code_has_the_state_of_its_checkout(checkout: Path) -> None:
    copy = checkout / "runs" / "code"
    shutil.copytree(checkout / "dist_train", copy / "dist_train")
    then = {"commit": "abc", "dirty": True, "untracked": None}
    (copy / COPY_NOTE).write_text(json.dumps(then | {"changes": "+1"}))
    assert git_state(copy) == then


def test_outside_a_checkout_there_is_none(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    assert (CODE / "dist_train" / "run" / "git_state.py").is_file()
