"""The table of runs, read from folders."""

import math
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from dist_train.system.files import write_json
from launch import scontrol, starts, status


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> dict[str, scontrol.Job]:
    """What the controller knows."""
    known: dict[str, scontrol.Job] = {}
    monkeypatch.setattr(scontrol, "show_job", lambda job_id: known.get(job_id, scontrol.Job()))
    return known


def make_run(folder: Path, name: str, job: str, **result: object) -> RunDir:
    run = RunDir(folder / name)
    starts.record_submission(run, job)
    if result:
        starts.record_start(run, job, 0)
        write_json(run.provenance, {"attempts": [{}]})
        run.config.write_text("")
        write_result(run, Result(**result))  # type: ignore[arg-type]
    return run


def line_of(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(name + " ")]
    return line.split()


def test_one_line_for_each_run(tmp_path: Path, jobs: dict[str, scontrol.Job]) -> None:
    jobs |= {
        "1": scontrol.Job("RUNNING", restarts=3),
        "2": scontrol.Job("PENDING", reason="Resources"),
        "3": scontrol.Job("FAILED"),
        "4": scontrol.Job("COMPLETED"),
    }
    make_run(tmp_path, "a", "1", status="running", step=10, total_steps=40, best={"step": 8, "top1": 91.5})
    make_run(tmp_path, "b", "2")
    make_run(tmp_path, "c", "3", status="running", step=5, total_steps=40)
    make_run(tmp_path, "d", "4", status="done", step=40, total_steps=40, best={"step": 8, "loss": 0.5, "map": math.nan})
    table = status.table(tmp_path)
    assert line_of(table, "a")[:7] == ["a", "running", "10/40", "top1", "91.5", "@", "8"]
    assert line_of(table, "a")[7] == "3"
    assert line_of(table, "b")[:3] == ["b", "pending", "(Resources)"]
    assert line_of(table, "c")[:3] == ["c", "lost", "(FAILED)"]
    assert line_of(table, "d")[:7] == ["d", "done", "40/40", "loss", "0.5", "@", "8"], "not the metric that is NaN"
    assert len(table.splitlines()) == 5


def test_a_damaged_run_is_one_line_and_the_others_are_shown(tmp_path: Path, jobs: dict[str, scontrol.Job]) -> None:
    make_run(tmp_path, "a", "1", status="done", step=4, total_steps=4)
    write_json(make_run(tmp_path, "b", "2", status="done").result, [1])
    table = status.table(tmp_path)
    assert line_of(table, "a")[:3] == ["a", "done", "4/4"]
    assert line_of(table, "b")[:2] == ["b", "damaged"]


def test_what_slurm_has_forgotten_is_not_called_queued_or_running(
    tmp_path: Path, jobs: dict[str, scontrol.Job]
) -> None:
    make_run(tmp_path, "a", "1")
    run = make_run(tmp_path, "b", "2", status="running", step=4, total_steps=9)
    write_json(run.result, {"status": "running", "updated": "2026-01-01T00:00:00+0000"})
    table = status.table(tmp_path)
    assert line_of(table, "a")[:2] == ["a", "unknown"]
    assert line_of(table, "b")[:4] == ["b", "running,", "silent", "for"]


def test_a_run_without_slurm_is_told_from_its_folder(tmp_path: Path, jobs: dict[str, scontrol.Job]) -> None:
    run = make_run(tmp_path, "a", "local", status="failed", step=3, total_steps=9, error="oom", message="too big")
    assert "failed" in status.table(run.path)
    assert "too big" in status.table(run.path)


@pytest.mark.parametrize(
    ("state", "result", "code"),
    [
        ("COMPLETED", "done", 0),
        ("CANCELLED", "stopped", 75),
        ("CANCELLED", "running", 1),
        ("FAILED", "failed", 1),
        ("FAILED", "done", 1),  # the result of an earlier job: this one broke before it began
        ("TIMEOUT", "stopped", 1),
    ],
)
def test_follow_ends_with_the_jobs_outcome(
    state: str, result: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scontrol, "show_job_surely", lambda _: scontrol.Job(state))
    run = make_run(tmp_path, "a", "7", status=result)
    assert status.follow(run, "7", f"{tmp_path}/7_*_log.out") == code
