"""Supervisors with real agents and a stand-in trainer, on this machine."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import load_config
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from dist_train.system import processes
from launch import supervise
from launch.runs import starts
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


def test_a_stop_signal_in_the_imports_of_the_agent_is_recorded(
    start: Callable[..., Any], make_config: Callable[..., Path], tmp_path: Path, standin_code: Path
) -> None:
    begun = tmp_path / "begun"
    (standin_code / "dist_train" / "training" / "attempt.py").write_text(
        f"open({str(begun)!r}, 'w')\nimport time; time.sleep(60)"
    )
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    process = start(make_config())
    wait_for(begun)
    process.terminate()
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 75, output
    assert result_of(tmp_path)["message"].endswith("before the first step")


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


def test_a_preemption_is_recorded_by_a_supervisor_that_is_late(
    standin_code: Path, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    """When the grace time is over, SLURM says that the job is COMPLETING, and of the preemption no more."""
    answers = f"""
        if [ -e {tmp_path}/asked ]; then echo JobState=COMPLETING
        elif [ -e {tmp_path}/stopping ]; then touch {tmp_path}/asked; echo JobState=RUNNING PreemptTime=2026-11-27T12:00:00
        else echo JobState=RUNNING; fi
    """
    supervise_until_stopped(answers, tmp_path, standin_code, make_config(steps=1000))
    (last,) = starts_of(tmp_path)
    assert (last["verdict"], last["preempted"]) == ("leave", True)
    assert "job is COMPLETING" in last["why"]


def test_workers_are_asked_to_stop_before_a_slow_controller_has_answered(
    standin_code: Path, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    answers = f"""
        [ -e {tmp_path}/stopping ] && for _ in $(seq 200); do
            if grep -q stopped {tmp_path}/runs/tiny/result.json; then touch {tmp_path}/in_time; break; fi; sleep 0.1
        done
        echo JobState=COMPLETING
    """
    supervise_until_stopped(answers, tmp_path, standin_code, make_config(steps=1000))
    assert (tmp_path / "in_time").exists()


def supervise_until_stopped(answers: str, tools: Path, code: Path, config: Path) -> None:
    """Run a supervisor with an ``scontrol`` that answers about the job, and stop it after a step. ``tools/stopping`` is there from then on."""
    (tools / "scontrol").write_text(f'#!/bin/sh\n[ "$2" = job ] || exit 1\n{answers}')
    (tools / "scontrol").chmod(0o755)
    command = [sys.executable, "-m", "launch.supervise", f"--config={config}"]
    with subprocess.Popen(command, cwd=code, env=in_slurm(tools, code)) as supervisor:
        wait_for_step(tools, 1)
        (tools / "stopping").touch()
        supervisor.terminate()
        assert supervisor.wait(60) == 0


def in_slurm(tools: Path, code: Path) -> dict[str, str]:
    """The environment of a supervisor in job 7 on one node; ``tools`` has its ``scontrol``."""
    task = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n1"}
    task |= {"SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1", "PYTHONPATH": str(code)}
    return os.environ | task | {"PATH": f"{tools}:{os.environ['PATH']}"}


def test_a_disk_without_room_at_the_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make_config: Callable[..., Path]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", "starts.json")

    monkeypatch.setattr(starts, "record_start", full)
    for name in ("note_signals", "open_missing", "go_on_without"):  # they change this process for good
        monkeypatch.setattr(supervise, name, list)
    monkeypatch.setattr(processes, "adopt_orphans", list)
    assert supervise.main([f"--config={make_config()}"]) == 1
    assert "Disk quota exceeded: 'starts.json': make room, then the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "verdict", "code"), [("done", "done", 0), ("failed", "fail", 1)])
def test_a_start_after_the_end_leaves_before_torchrun(
    status: str, verdict: str, code: int, standin_code: Path, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    """What SLURM 24.05 and later ask for after a preemption; ``benchmarks/slurm_faults.py`` has it from a real one."""
    config = make_config()
    run = RunDir.of(load_config(config).run)
    starts.record_start(run, "7", 0)
    starts.record_end(run, "requeue", "stopped by preemption", preempted=True)
    starts.record_start(run, "7", 1)
    write_result(run, Result(status=status, attempt=2, step=9))  # type: ignore[arg-type]
    starts.record_end(run, verdict, "the reason")
    before = run.result.read_bytes()
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho JobState=RUNNING slurm 24.11.5\n")
    (tmp_path / "scontrol").chmod(0o755)
    task = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    task |= {"SLURM_JOB_NODELIST": "n1", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [sys.executable, "-m", "launch.supervise", f"--config={config}"]
    done = subprocess.run(command, cwd=standin_code, env=os.environ | task, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert run.result.read_bytes() == before
    assert "SLURM has started the job once more" in done.stdout
    assert "torch" not in done.stdout
    assert ("error: the reason" in done.stderr) == bool(code)
    last = starts_of(tmp_path)[-1]
    assert (last["restart"], last["verdict"], last["repeated"]) == (2, verdict, True)


def wait_for(file: Path) -> None:
    give_up_at = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
