"""Paths in a clone and in an installed package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import installation
from tests.launch.commands import ROOT

ASK = "from launch.installation import *; print(command('wandb-sync'), command('slurm'), site_file(), user_code(), sep='|')"


def ask(pythonpath: Path, cwd: Path) -> list[str]:
    env = os.environ | {"PYTHONPATH": str(pythonpath), "XDG_CONFIG_HOME": "/home/me/.config"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASK], cwd=cwd, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().split("|")


def test_a_clone(tmp_path: Path) -> None:
    commands = ["python launch/wandb_sync.py", "python launch/slurm.py"]
    assert ask(ROOT, tmp_path) == [*commands, f"{ROOT}/configs/cluster.yaml", str(ROOT)]


def test_an_installed_package(standin_code: Path, tmp_path: Path) -> None:
    site = "/home/me/.config/dist_train/cluster.yaml"
    assert ask(standin_code, tmp_path) == ["dist-train wandb-sync", "dist-train-slurm", site, str(tmp_path)]


@pytest.mark.parametrize(
    ("argv0", "expected"),
    [
        ("/usr/bin/dist-train", "dist-train compare"),
        ("/clone/dist_train/__main__.py", "python -m dist_train compare"),
        ("launch/compare.py", "python launch/compare.py"),
    ],
)
def test_a_usage_line_names_what_the_user_has_called(
    monkeypatch: pytest.MonkeyPatch, argv0: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", [argv0])
    assert installation.command("compare") == expected


def test_the_users_pythonpath_comes_after_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a:/b")
    assert installation.pythonpath(Path("/code")) == "/code:/a:/b"
    monkeypatch.delenv("PYTHONPATH")
    assert installation.pythonpath(Path("/code")) == "/code"
