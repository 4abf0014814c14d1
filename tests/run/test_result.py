"""``result.json``, and the refusal that a supervisor reads."""

import json
import math
import subprocess
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from dist_train.run.result import (
    KINDS,
    START_NAME,
    Result,
    load_result,
    read_refusal,
    read_result,
    write_refusal,
    write_result,
)
from tests.support.surroundings import full


def test_there_and_back(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    assert read_result(run) == {}
    write_result(run, Result(status="done", step=5, best={"step": 5, "top1": 50.0}))
    known = read_result(run)
    assert (known["status"], known["step"], known["best"]["top1"]) == ("done", 5, 50.0)
    assert known["updated"]
    assert json.loads(run.result.read_text()) == known


def test_a_score_that_is_nan_is_null_in_the_file_and_nan_for_a_program(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write_result(run, Result(best={"step": 5, "map": math.nan}))
    assert read_result(run)["best"] == {"step": 5, "map": None}
    loaded = load_result(run)
    assert loaded.best is not None
    assert loaded.best["step"] == 5
    assert math.isnan(loaded.best["map"])
    assert loaded.last is None


def test_half_a_file_is_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.result.write_text('{"status": "do')
    assert read_result(run) == {}


def test_a_refusal_is_for_the_start_that_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    write_refusal(run, "config", "no supervisor, nobody to tell")
    assert not run.refusal.exists()
    monkeypatch.setenv(START_NAME, "7.0 at node1:1")
    write_refusal(run, "config", "`optim.lr` was changed")
    assert read_refusal(run, "7.0 at node1:1")["message"] == "`optim.lr` was changed"
    assert read_refusal(run, "7.1 at node1:1") == {}


def test_every_field_may_be_read_back() -> None:
    """``read_result`` leaves out what it does not know: a new field needs its kind."""
    assert KINDS.keys() == {field.name for field in fields(Result)} - {"folder"}
    assert [key for key, value in asdict(Result()).items() if key in KINDS and not KINDS[key](value)] == []


@pytest.mark.parametrize("content", ["[]", "5", "null", '"word"', "[" * 100_000, '{"step": 1e999}', '{"step": "5"}'])
def test_what_no_run_wrote_is_left_out(tmp_path: Path, content: str) -> None:
    run = RunDir(tmp_path)
    run.result.write_text(content)
    assert read_result(run) == {}


def test_on_a_full_disk_the_reason_replaces_the_old_content(tmp_path: Path) -> None:
    """A real full disk, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        run = RunDir(disk)
        write_result(run, Result("running", step=3, message="x" * 1000))
        with full(disk):
            write_result(run, Result("failed", step=3, message="no space"))
            assert read_result(run)["message"] == "no space"
            write_result(run, Result("failed", step=3, message="y" * 2000))
            assert read_result(run)["message"] == "y" * 2000
            run.result.unlink()
            with full(disk), pytest.raises(OSError, match="No space left"):
                write_result(run, Result("failed"))
        assert [path.name for path in disk.iterdir()] == []
    finally:
        subprocess.run(["umount", disk], check=True)
