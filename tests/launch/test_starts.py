"""Progress between two starts."""

from pathlib import Path

from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from launch import starts as progress


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
