"""The end of the batch script. ``tests/slurm`` tests it on a real SLURM."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.config import load_config
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from launch import last_resort
from launch.runs import starts
from launch.scheduler import scontrol

TASK = {"SLURM_JOB_ID": "7"}


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs for which a requeue was asked; the controller says that job 7 runs."""
    asked: list[str] = []
    monkeypatch.setattr(scontrol, "show_job_surely", lambda _: scontrol.Job("RUNNING"))
    monkeypatch.setattr(scontrol, "requeue", lambda job_id: asked.append(job_id) or "")
    return asked


@pytest.mark.parametrize("status", ["0", "1", "2"])
def test_what_a_supervisor_decided_stands(status: str, make_config: Callable[..., Path], requeued: list[str]) -> None:
    assert last_resort.main([status, "--config", str(make_config())], TASK) == int(status)
    assert requeued == []


def test_a_killed_supervisor_brings_the_job_back(make_config: Callable[..., Path], requeued: list[str]) -> None:
    config = make_config()
    run = RunDir.of(load_config(config).run)
    starts.record_start(run, "7", 0)
    write_result(run, Result(step=5))
    assert last_resort.main(["137", "--config", str(config), "run.seed=0"], TASK) == 0
    assert requeued == ["7"]


@pytest.mark.parametrize("by", ["SLURM", "the supervisor"])
def test_it_records_that_the_job_was_preempted(
    by: str, make_config: Callable[..., Path], requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later start needs it: SLURM starts such a job once more after its end."""
    job = scontrol.Job("RUNNING", preempted=True) if by == "SLURM" else scontrol.Job("COMPLETING")
    monkeypatch.setattr(scontrol, "show_job_surely", lambda _: job)
    config = make_config()
    run = RunDir.of(load_config(config).run)
    starts.record_start(run, "7", 0)
    if by == "the supervisor":
        starts.record_preemption(run)
    last_resort.main(["137", "--config", str(config)], TASK)
    (start,) = starts.read_starts(run)
    assert (start["verdict"], start["preempted"]) == ("requeue" if by == "SLURM" else "leave", True)


def test_it_does_not_overrule_a_failure_for_which_srun_killed_the_others(
    make_config: Callable[..., Path], requeued: list[str]
) -> None:
    config = make_config()
    run = RunDir.of(load_config(config).run)
    starts.record_start(run, "7", 1)
    write_result(run, Result(status="failed", error="oom", step=5))
    starts.record_end(run, "fail", "oom error")
    assert last_resort.main(["143", "--config", str(config)], TASK | {"SLURM_RESTART_COUNT": "1"}) == 143
    assert requeued == []
    assert last_resort.main(["143", "--config", str(config)], TASK | {"SLURM_RESTART_COUNT": "2"}) == 0
    assert requeued == ["7"], "a later start has been judged by nobody yet"


def test_killed_twice_without_progress_it_ends(make_config: Callable[..., Path], requeued: list[str]) -> None:
    config = make_config()
    run = RunDir.of(load_config(config).run)
    starts.record_start(run, "7", 0)
    starts.record_start(run, "7", 1)
    assert last_resort.main(["137", "--config", str(config)], TASK) == 137
    assert requeued == []


def test_a_run_that_is_done_is_not_started_again(make_config: Callable[..., Path], requeued: list[str]) -> None:
    config = make_config()
    write_result(RunDir.of(load_config(config).run), Result(status="done", step=9))
    assert last_resort.main(["143", "--config", str(config)], TASK) == 0
    assert requeued == []


def test_a_node_lost_before_the_run_began_there_says_nothing_of_the_run(
    make_config: Callable[..., Path], requeued: list[str]
) -> None:
    """srun exits with its own error code, modulo 256: 1001, communication connection failure, is 233."""
    config = make_config()
    run = RunDir.of(load_config(config).run)
    for restart in range(4):
        starts.record_start(run, "7", restart)
        env = TASK | {"SLURM_RESTART_COUNT": str(restart)}
        assert last_resort.main(["233", "--config", str(config)], env) == 0
    assert requeued == ["7"] * 4
    assert {start["why"] for start in starts.read_starts(run)} == {"srun could not start the run on every node (233)"}
    starts.record_start(run, "7", 4)
    assert starts.history(run, "7").progressed_before, "starts that did not begin count as none"


def test_supervisors_that_die_with_another_node_say_nothing_of_the_run(
    make_config: Callable[..., Path], requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scontrol, "lost_nodes", lambda nodes, since: ["n2"] if since < time.time() else [])
    config = make_config()
    run = RunDir.of(load_config(config).run)
    for restart in range(4):
        starts.record_start(run, "7", restart)
        assert last_resort.main(["137", "--config", str(config)], TASK | {"SLURM_RESTART_COUNT": str(restart)}) == 0
    assert requeued == ["7"] * 4
    assert {start["why"] for start in starts.read_starts(run)} == {"lost n2"}
