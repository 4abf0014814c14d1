"""Progress between two starts."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from launch.runs import starts as progress


def test_dying_at_the_same_step_again_is_no_progress(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    progress.record_start(run, "7", 0)
    write_result(run, Result(step=50))
    assert progress.history(run, "7").progressed
    progress.record_start(run, "7", 1)
    write_result(run, Result(step=40))  # it went back to its checkpoint
    write_result(run, Result(step=50))  # and died at the same place
    second = progress.history(run, "7")
    assert not second.progressed
    assert second.progressed_before
    progress.record_start(run, "7", 2)
    third = progress.history(run, "7")
    assert not third.progressed
    assert not third.progressed_before


def test_starts_of_other_jobs_do_not_count(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    progress.record_start(run, "7", 0)
    write_result(run, Result(status="stopped", step=50))
    progress.record_start(run, "8", 0)
    past = progress.history(run, "8")
    assert past == progress.History(progressed=False, progressed_before=True, stopped_at=50)
    write_result(run, Result(step=51))
    assert progress.history(run, "8").progressed


def test_submissions_and_ends_are_kept(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    progress.record_submission(run, "7", nodes=2)
    progress.record_submission(run, "8", nodes=3)
    assert [entry["job"] for entry in progress.read_submissions(run)] == ["7", "8"]
    progress.record_start(run, "8", 0)
    write_result(run, Result(step=3))
    progress.record_end(run, "requeue", "because")
    (start,) = progress.read_starts(run)
    assert (start["reached"], start["verdict"], start["why"]) == (3, "requeue", "because")


NEWER = (24, 11)


def start_and_end(run: RunDir, restart: int, verdict: str, status: str, **details: bool) -> None:
    progress.record_start(run, "7", restart)
    write_result(run, Result(status=status, attempt=restart + 1))  # type: ignore[arg-type]
    progress.record_end(run, verdict, "because", **details)


def test_a_job_that_is_done_has_ended_before(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start_and_end(run, 0, "requeue", "stopped", preempted=True)
    assert progress.ended_before(run, "7", 1, NEWER) is None
    start_and_end(run, 1, "done", "done")
    last = progress.ended_before(run, "7", 2, NEWER)
    assert last
    assert (last["restart"], last["verdict"]) == (1, "done")
    progress.record_start(run, "7", 2)  # what node 0 records must not change what node 1 finds
    assert progress.ended_before(run, "7", 2, NEWER) == last


def test_a_done_run_whose_supervisor_was_killed_has_ended_too(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    progress.record_start(run, "7", 0)
    write_result(run, Result(status="done", attempt=1))
    last = progress.ended_before(run, "7", 1, NEWER)
    assert last
    assert last["verdict"] == "done"


def test_a_result_of_another_job_ends_nothing(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start_and_end(run, 0, "done", "done")
    progress.record_start(run, "8", 0)  # the config may ask for more steps; its workers died before they wrote anything
    assert not progress.wrote_result(run, "8")
    assert progress.ended_before(run, "8", 1, NEWER) is None
    assert progress.ended_before(run, "9", 1, NEWER) is None
    write_result(run, Result(status="running", attempt=2))
    assert progress.wrote_result(run, "8")
    assert not progress.wrote_result(run, "7")


def test_a_failure_is_repeated_once_and_only_after_a_preemption(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start_and_end(run, 0, "fail", "failed")
    assert progress.ended_before(run, "7", 1, NEWER) is None, "the user has requeued it"
    start_and_end(run, 1, "requeue", "stopped", preempted=True)
    start_and_end(run, 2, "fail", "failed")
    assert progress.ended_before(run, "7", 3, (22, 5)) is None, "only the user can have requeued it"
    last = progress.ended_before(run, "7", 3, NEWER)
    assert last
    assert (last["restart"], last["verdict"], last["why"]) == (2, "fail", "because")
    start_and_end(run, 3, "fail", "failed", repeated=True)
    assert progress.ended_before(run, "7", 4, NEWER) is None, "the user has requeued it"


def test_on_a_full_disk_the_end_of_a_start_is_written_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path)
    progress.record_start(run, "7", 0)
    monkeypatch.setattr(progress, "write_json", failing(errno.EDQUOT))
    progress.record_end(run, "requeue", "preempted before it could save")
    assert progress.read_starts(run)[-1]["verdict"] == "requeue"
    monkeypatch.setattr(progress, "overwrite_json", failing(errno.EDQUOT))
    progress.record_preemption(run)
    assert capsys.readouterr().out.endswith("(Disk quota exceeded): how this start ended is not recorded\n")


def test_a_start_that_cannot_be_recorded_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "write_json", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        progress.record_start(RunDir(tmp_path), "7", 0)


def failing(number: int) -> Any:
    def fail(path: Path, *_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return fail
