"""A trainer that needs no torch, a config for it, and its start on this machine."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.scheduler import cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SLURM on this machine does not decide what a test sees; ``tests/slurm`` is for a real one."""
    if request.module.__name__ != "tests.launch.scheduler.test_cluster":
        monkeypatch.setattr(cluster, "known", lambda dry_run: cluster.Cluster())


@pytest.fixture
def standin_code(tmp_path: Path) -> Path:
    """A copy of the code whose trainer is ``standin_train.py``: the first entry of a PYTHONPATH."""
    code = tmp_path / "code"
    for package in ("dist_train", "launch"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("standin_train.py"), code / "dist_train" / "training" / "attempt.py")
    return code


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Path]:
    """Write a config for the stand-in, with its plan; returns the file."""

    def make(**plan: object) -> Path:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        (data / "plan.json").write_text(json.dumps({"steps": 20, "step_s": 0.05, "save_every": 5} | plan))
        config = tmp_path / "config.yaml"
        config.write_text(
            f"run: {{name: tiny, output_dir: {tmp_path / 'runs'}}}\n"
            f"model: {{name: resnet18, pretrained: false}}\ndata: {{root: {data}}}\n"
            "optim: {lr: 0.1}\ntrain: {global_batch: 4}\n"
        )
        return config

    return make


@pytest.fixture
def start(standin_code: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start ``launch/slurm.py --cluster local`` in a process group of its own."""
    begun = []

    def go(config: Path, *args: str, **variables: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "launch/slurm.py",
            "--cluster",
            "local",
            "--no-check",
            "--config",
            str(config),
            *args,
        ]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "PYTHONPATH"))}
        env |= variables
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        begun.append(subprocess.Popen(command, cwd=standin_code, env=env, start_new_session=True, **pipes))
        return begun[-1]

    yield go
    for process in begun:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
    assert _processes_of(tmp_path) == [], "a worker outlived its launcher"


def _processes_of(folder: Path) -> list[str]:
    """Command lines of processes that have to do with the test, some time being given to them to end."""
    give_up_at = time.time() + 5
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
        if not found or time.time() > give_up_at:
            return found
        time.sleep(0.2)
