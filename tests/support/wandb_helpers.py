"""Shared by the W&B tests: a fake trainer to start and kill, and readers of segments and server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dist_train.loggers.wandb.files import history, segments_of
from dist_train.run.folder import RunDir
from tests.support.wandb_stub import WandbStub

pytest.importorskip("wandb")

TRAINER = Path(__file__).with_name("wandb_trainer.py")


def isolated_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """An empty run folder, a home without credentials, and no W&B variables from outside."""
    for key in [key for key in os.environ if key.startswith("WANDB_")]:
        monkeypatch.delenv(key)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(TRAINER.parents[2]))
    folder = RunDir(tmp_path / "runs" / "a-run")
    folder.path.mkdir(parents=True)
    return folder


def start(run: RunDir, *args: object, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    command = [sys.executable, str(TRAINER), str(run.path), *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | (env or {}), stdout=pipe, stderr=pipe, text=True)


def finish(process: "subprocess.Popen[str]") -> tuple[dict[str, float], str]:
    """Wait for the trainer; the times that it measured, and what the user saw."""
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return {key: value for line in out.splitlines() for key, value in json.loads(line).items()}, err


def train(run: RunDir, *args: object, env: dict[str, str] | None = None) -> tuple[dict[str, float], str]:
    return finish(start(run, *args, env=env))


def expected(last: int) -> list[tuple[str, int]]:
    """All rows of steps 1 to ``last``, in their order."""
    return [row for step in range(1, last + 1) for row in [("train", step), *[("val", step)] * (step % 5 == 0)]]


def rows_in(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    splits = [(split, row[f"{split}/step"]) for row in rows for split in ("train", "val") if f"{split}/step" in row]
    return [(split, int(step)) for split, step in splits]


def offline_rows(run: RunDir) -> list[list[tuple[str, int]]]:
    """What each segment on disk holds."""
    session = json.loads((run.path / "wandb" / "session.json").read_text())
    return [rows_in(history(path)) for path in segments_of(run.path / "wandb", session["id"])]


def logged_offline(run: RunDir) -> list[tuple[str, int]]:
    """The rows of all segments, in the order of their starts."""
    return [row for segment in offline_rows(run) for row in segment]


def server_rows(server: WandbStub) -> list[tuple[str, int]]:
    return rows_in([server.run.history[index] for index in sorted(server.run.history)])


def wait_for(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def processes_of(run: RunDir) -> dict[int, str]:
    """The uploader of this run and its wandb-core, with their command lines."""
    table: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            table[int(entry.name)] = parent, (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError, IndexError):
            continue
    ours = {pid for pid, (_, line) in table.items() if "wandb.uploader" in line and str(run.path) in line}
    return {pid: line for pid, (parent, line) in table.items() if line and (pid in ours or parent in ours)}


def kill_core(run: RunDir, how: signal.Signals) -> None:
    cores = [pid for pid, line in processes_of(run).items() if "wandb-core" in line]
    assert cores
    for pid in cores:
        os.kill(pid, how)
