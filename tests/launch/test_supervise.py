"""Supervisors with real torchrun agents and a stand-in trainer, on this machine: `--cluster local`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


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


def _result(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "runs" / "tiny" / "result.json").read_text())


def _starts(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "runs" / "tiny" / "starts.json").read_text())


def _wait_for_step(tmp_path: Path, step: int) -> None:
    give_up_at = time.time() + 60
    while time.time() < give_up_at:
        try:
            if _result(tmp_path)["step"] >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")


def test_two_nodes_to_the_end(start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path) -> None:
    # As in a shell that `srun --pty` opened: that allocation's job is not the run's, and must not be requeued for it.
    allocation = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n1"}
    process = start(make_config(steps=5), "--nodes", "2", **allocation)
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    assert _result(tmp_path)["status"] == "done"
    assert [begun["job"] for begun in _starts(tmp_path)] == ["local"]
    assert "node 1 of 2" in output
    snapshots = list((tmp_path / "runs" / "tiny" / "slurm").glob("code-*"))
    assert [(path / "dist_train" / "training" / "loop.py").exists() for path in snapshots] == [True]


def test_interrupted_saved_and_continued(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    config = make_config(steps=400)
    process = start(config)
    _wait_for_step(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    stopped = _result(tmp_path)
    assert stopped["status"] == "stopped"
    make_config(steps=stopped["step"] + 3)
    process = start(config)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert _result(tmp_path)["step"] == stopped["step"] + 3
    assert _starts(tmp_path)[-1]["stopped_at"] == stopped["step"]


def test_a_killed_worker_is_restarted_in_the_job(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    process = start(make_config(steps=10, fault="kill", fault_step=7, fault_once=True))
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    assert (_result(tmp_path)["attempt"], len(_starts(tmp_path))) == (2, 1)


def test_workers_save_when_their_agent_dies_and_start_again_from_the_snapshot(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path, standin_code: Path
) -> None:
    process = start(make_config(steps=40, fault="kill_agent", fault_step=7, fault_once=True))
    _wait_for_step(tmp_path, 1)
    (standin_code / "dist_train" / "train.py").write_text("raise SystemExit('the working copy was used')")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    first, second = _starts(tmp_path)
    assert first["verdict"] == "requeue"
    assert second["stopped_at"] == first["reached"], "the workers were not given time to save"


def test_a_bug_is_tried_again_once_after_progress(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    process = start(make_config(steps=10, fault="other", fault_step=7), "--max-restarts", "0")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert [entry["verdict"] for entry in _starts(tmp_path)] == ["requeue", "fail"]
    assert "no progress since the last start" in output


def test_a_hopeless_error_ends_the_job_without_restarts(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    process = start(make_config(steps=10, fault="oom", fault_step=7, startup_s=3), "--max-restarts", "5")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert [entry["verdict"] for entry in _starts(tmp_path)] == ["fail"]
    assert "oom error at step 7" in output
    assert _result(tmp_path)["attempt"] == 1


def test_a_start_that_is_turned_away_ends_the_job_without_restarts(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    """``result.json`` belongs to the start that works on the run: it says ``running`` all the time."""
    process = start(make_config(steps=10, fault="refused", fault_step=2, startup_s=3), "--max-restarts", "5")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert [entry["verdict"] for entry in _starts(tmp_path)] == ["fail"]
    assert "config error at step 0, which would come again: another start works on it" in output
    assert _result(tmp_path)["status"] == "running"
