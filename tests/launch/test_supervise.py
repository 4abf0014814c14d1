"""Supervisors with real torchrun agents and a stand-in trainer, on this machine."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.launch.local_runs import result_of, starts_of, wait_for_step

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_killed_worker_is_restarted_in_the_job(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    process = start(make_config(steps=10, fault="kill", fault_step=7, fault_once=True))
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    assert (result_of(tmp_path)["attempt"], len(starts_of(tmp_path))) == (2, 1)


def test_workers_save_when_their_agent_dies_and_start_again_from_the_snapshot(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path, standin_code: Path
) -> None:
    process = start(make_config(steps=40, fault="kill_agent", fault_step=7, fault_once=True))
    wait_for_step(tmp_path, 1)
    (standin_code / "dist_train" / "training" / "attempt.py").write_text(
        "raise SystemExit('the working copy was used')"
    )
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 0, output
    first, second = starts_of(tmp_path)
    assert first["verdict"] == "requeue"
    assert second["stopped_at"] == first["reached"], "the workers were not given time to save"


def test_a_bug_is_tried_again_once_after_progress(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    process = start(make_config(steps=10, fault="other", fault_step=7), "--max-restarts", "0")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert [entry["verdict"] for entry in starts_of(tmp_path)] == ["requeue", "fail"]
    assert "this start made no progress" in output


def test_a_hopeless_error_ends_the_job_without_restarts(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    process = start(make_config(steps=10, fault="oom", fault_step=7, startup_s=3), "--max-restarts", "5")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert [entry["verdict"] for entry in starts_of(tmp_path)] == ["fail"]
    assert "oom error at step 7" in output
    assert result_of(tmp_path)["attempt"] == 1


def test_a_start_that_is_turned_away_ends_the_job_without_restarts(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path
) -> None:
    """``result.json`` belongs to the start that works on the run: it says ``running`` all the time."""
    process = start(make_config(steps=10, fault="refused", fault_step=2, startup_s=3), "--max-restarts", "5")
    output = process.communicate(timeout=90)[0]
    assert process.returncode == 1, output
    assert [entry["verdict"] for entry in starts_of(tmp_path)] == ["fail"]
    assert "config error at step 0, which another start cannot solve: another start works on it" in output
    assert result_of(tmp_path)["status"] == "running"
