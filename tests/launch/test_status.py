"""The table of runs, read from folders."""

import math
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from dist_train.system.files import write_json
from launch import status
from launch.runs import starts
from launch.scheduler import scontrol
from tests.support.denied import another_user, public_folder


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


def test_the_folder_of_a_done_run_counts_not_the_state_of_its_job(
    tmp_path: Path, jobs: dict[str, scontrol.Job]
) -> None:
    """SLURM 24.05 and later start a job once more after a preemption, and call it PREEMPTED under PreemptMode=CANCEL."""
    jobs |= {"1": scontrol.Job("PENDING", restarts=2, reason="Resources"), "2": scontrol.Job("PREEMPTED")}
    for name, job in (("a", "1"), ("b", "2")):
        make_run(tmp_path, name, job, status="done", step=4, total_steps=4)
    table = status.table(tmp_path)
    assert line_of(table, "a")[:3] == ["a", "done", "4/4"]
    assert line_of(table, "b")[:3] == ["b", "done", "4/4"]


def test_a_job_cancelled_while_pending_is_not_lost(tmp_path: Path, jobs: dict[str, scontrol.Job]) -> None:
    jobs |= {name: scontrol.Job("CANCELLED") for name in ("1", "2", "3")} | {"4": scontrol.Job("DEADLINE")}
    make_run(tmp_path, "a", "1")
    make_run(tmp_path, "d", "4")
    starts.record_submission(make_run(tmp_path, "b", "7", status="stopped", step=4, total_steps=9), "2")
    make_run(tmp_path, "c", "3", status="running", step=4, total_steps=9)
    table = status.table(tmp_path)
    assert line_of(table, "a")[:5] == ["a", "cancelled", "before", "it", "began"]
    assert line_of(table, "d")[:5] == ["d", "deadline", "before", "it", "began"]
    assert line_of(table, "b")[:2] == ["b", "stopped"]
    assert line_of(table, "c")[:3] == ["c", "lost", "(CANCELLED)"]


def test_a_held_job_is_not_over(tmp_path: Path, jobs: dict[str, scontrol.Job]) -> None:
    jobs["1"] = scontrol.Job("REQUEUE_HOLD", reason="JobHeldUser")
    make_run(tmp_path, "a", "1", status="stopped", step=4, total_steps=9)
    assert line_of(status.table(tmp_path), "a")[:3] == ["a", "requeue_hold", "(JobHeldUser)"]


def test_a_dead_controller_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(scontrol, "show_job", lambda job_id: asked.append(job_id) or scontrol.Job())
    for name in "abc":
        make_run(tmp_path, name, name, status="stopped", step=4, total_steps=9)
    table = status.table(tmp_path)
    assert line_of(table, "c")[:2] == ["c", "stopped"]
    assert table.endswith("\nSLURM does not answer: states are those in the run folders")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("state", "result", "verdict", "code"),
    [
        ("COMPLETED", "done", "done", 0),
        ("PREEMPTED", "done", "done", 0),  # SLURM 24.05 and later, PreemptMode=CANCEL
        ("PREEMPTED", "stopped", "leave", 75),
        (scontrol.FORGOTTEN, "done", "done", 0),
        (scontrol.FORGOTTEN, "running", "", 1),
        ("CANCELLED", "stopped", "leave", 75),
        ("CANCELLED", "running", "", 1),
        ("FAILED", "failed", "fail", 1),
        ("FAILED", "stopped", "fail", 1),
        ("TIMEOUT", "stopped", "requeue", 75),
    ],
)
def test_follow_ends_with_the_outcome_of_the_run(
    state: str, result: str, verdict: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scontrol, "show_job_surely", lambda _: scontrol.Job(state))
    run = make_run(tmp_path, "a", "7", status=result)
    starts.record_end(run, verdict, "because")
    assert status.follow(run, "7", f"{tmp_path}/7_*_log.out") == code


@pytest.mark.parametrize(("state", "code"), [("FAILED", 1), ("COMPLETED", 1), ("CANCELLED", 75)])
def test_follow_ignores_the_result_of_an_earlier_job(
    state: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scontrol, "show_job_surely", lambda _: scontrol.Job(state))
    run = make_run(tmp_path, "a", "6", status="done")
    assert status.follow(run, "7", f"{tmp_path}/7_*_log.out") == code


def follow_states(monkeypatch: pytest.MonkeyPatch, run: RunDir, *jobs: scontrol.Job) -> int:
    """Follow job 7 through these states."""
    answers = iter(jobs)
    monkeypatch.setattr(scontrol, "show_job_surely", lambda _: next(answers))
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    return status.follow(run, "7", "/nowhere_*")


def test_follow_says_why_a_job_waits_and_what_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pending = [scontrol.Job("PENDING", reason=reason) for reason in ("None", "Resources", "PartitionTimeLimit")]
    ended = [scontrol.Job("CANCELLED")] * 2
    assert follow_states(monkeypatch, make_run(tmp_path, "a", "7"), *pending, *ended) == 75
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["[job 7] PENDING, 0 requeue(s)", "[job 7] PENDING (Resources), 0 requeue(s)"]
    assert told[2].startswith("[job 7] PENDING (PartitionTimeLimit), 0 requeue(s); it will not start by itself: --time")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("QOSMaxWallDurationPerJobLimit", "--time is above the limit of the account or QOS"),
        ("AssocMaxCpuPerJobLimit", "more than the account or QOS allows one job"),
        ("QOSMaxGRESPerNode", "more of a node"),
        ("QOSMinGRES", "less than the QOS demands"),
        ("InvalidQOS", "submit with another --account or --qos"),
        ("AccountNotAllowed", "does not take its account or QOS"),
        ("job_requeued_in_held_state", "scontrol release 7"),
        ("QOSMaxJobsPerUserLimit", ""),
        ("MaxNodePerAccount", ""),
        ("AssocGrpCPUMinutesLimit", ""),
    ],
)
def test_follow_says_what_to_do_where_a_job_will_not_start_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: str, words: str
) -> None:
    states = [scontrol.Job("PENDING", reason=reason), *[scontrol.Job("CANCELLED")] * 2]
    assert follow_states(monkeypatch, make_run(tmp_path, "a", "7"), *states) == 75
    told = capsys.readouterr().out.splitlines()[0]
    assert ("will not start by itself" in told) == bool(words)
    assert words in told


def test_follow_passes_over_the_state_of_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, "a", "7", status="done")
    states = ["RUNNING", "NODE_FAIL", "PENDING", "RUNNING", "COMPLETED", "COMPLETED"]
    assert follow_states(monkeypatch, run, *[scontrol.Job(state) for state in states]) == 0


def test_follow_does_not_wait_for_the_start_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, "a", "7", status="done")
    assert follow_states(monkeypatch, run, scontrol.Job("PENDING", restarts=2, reason="Resources")) == 0
    assert "the run is done; SLURM starts its job once more" in capsys.readouterr().out


@pytest.mark.parametrize(("ran_s", "eta"), [(100.0, "0:05:00"), (None, "1:00:00")])
def test_the_remaining_time_does_not_count_a_suspension(
    tmp_path: Path, jobs: dict[str, scontrol.Job], ran_s: float | None, eta: str
) -> None:
    """The start was 20 minutes ago; SLURM says that it ran for 100 s of them."""
    run = make_run(tmp_path, "a", "1", status="running", step=0, total_steps=40)
    began = datetime.now().astimezone() - timedelta(minutes=20)
    write_json(run.path / "starts.json", [starts.read_starts(run)[0] | {"time": f"{began:%Y-%m-%dT%H:%M:%S%z}"}])
    write_result(run, Result(status="running", step=10, total_steps=40))
    jobs["1"] = scontrol.Job("RUNNING", ran_s=ran_s)
    assert eta[:-1] in status.table(tmp_path)


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/none is not a folder of runs: it does not exist\n"


def test_folders_that_may_hide_runs_are_named(jobs: dict[str, scontrol.Job]) -> None:
    with public_folder() as folder:
        make_run(folder, "a", "1")
        (folder / "private").mkdir(0o000)
        with another_user():
            table, alone = status.table(folder), status.table(folder / "private")
    assert line_of(table, "a")
    assert alone == f"cannot be read, and may hold runs: {folder}/private"
    assert alone in table.splitlines()
