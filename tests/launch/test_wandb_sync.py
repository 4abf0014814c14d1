"""``launch/wandb_sync.py`` with the real client: segments written by it, uploaded by it to a stub server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_train.run.folder import RunDir
from tests.support.wandb_helpers import (
    expected,
    finish,
    isolated_run,
    offline_rows,
    server_rows,
    start,
    train,
    wait_for,
)
from tests.support.wandb_stub import WandbStub

pytest.importorskip("wandb")
SCRIPT = Path(__file__).parents[2] / "launch" / "wandb_sync.py"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    return isolated_run(tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[WandbStub]:
    with WandbStub() as stub:
        yield stub


def sync(server: WandbStub, *args: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, env=os.environ | server.env(), capture_output=True, text=True, timeout=90)


def test_two_segments_and_an_empty_one_become_one_run_and_a_second_sync_changes_nothing(
    run: RunDir, server: WandbStub
) -> None:
    train(run, 0, 12, "stopped", 0, "offline")
    train(run, 10, 20, "done", 0, "offline")
    segments = sorted((run.path / "wandb").glob("offline-run-*"))
    empty = segments[0].with_name(segments[0].name.replace("offline-run-2", "offline-run-1"))
    empty.mkdir()
    whole = next(segments[0].glob("*.wandb"))
    (empty / whole.name).write_bytes(whole.read_bytes()[:7])  # what a kill in the first moment leaves
    done = sync(server, run.path, run.path.parent / "*")
    assert done.returncode == 0, done.stderr
    assert server_rows(server) == expected(20)
    assert server.run.exit_codes[-1] == 0
    assert server.run.event_lines > 0, "the machine's statistics come from the segments"
    assert "complete already" in done.stderr


def test_a_run_partly_online_gets_what_is_missing_only(run: RunDir, server: WandbStub) -> None:
    train(run, 0, 10, "stopped", env=server.env())
    starts = server.run.starts
    trainer = start(run, 10, 30, "stopped", 0.1, env=server.env())
    wait_for(lambda: server.run.starts > starts)
    server.mood = "unauthorized"  # a key that expires: wandb itself takes this for a success
    finish(trainer)
    train(run, 30, 35, "done", 0, "offline")
    assert server_rows(server) == expected(10)
    server.mood = "ok"
    done = sync(server, run.path)
    assert done.returncode == 0, done.stderr
    assert server_rows(server) == expected(35)


def test_a_live_run_is_skipped_and_stays_alive(run: RunDir, server: WandbStub) -> None:
    trainer = start(run, 0, 40, "done", 0.1, "offline")
    wait_for(lambda: list((run.path / "wandb").glob("offline-run-*")))
    done = sync(server, run.path)
    assert "live, skipped" in done.stdout
    assert server.runs == {}
    finish(trainer)
    assert offline_rows(run) == [expected(40)]


@pytest.mark.slow
def test_a_run_on_another_host_counts_as_live_while_its_heart_beats(run: RunDir, server: WandbStub) -> None:
    train(run, 0, 5, "done", 0, "offline")
    run.lock.write_text("{}")
    assert "live, skipped" in sync(server, run.path).stdout
    long_ago = time.time() - 600
    os.utime(run.lock, (long_ago, long_ago))
    assert sync(server, run.path).returncode == 0
    assert server.run.exit_codes[-1] == 0, "as the segment ended"


@pytest.mark.parametrize("mood", ["dead", pytest.param("hang", marks=pytest.mark.slow)])
def test_without_a_server_it_fails_soon_and_loses_nothing(run: RunDir, server: WandbStub, mood: str) -> None:
    train(run, 0, 5, "done", 0, "offline")
    server.kill() if mood == "dead" else setattr(server, "mood", mood)
    began = time.monotonic()
    done = sync(server, run.path)
    assert done.returncode == 1
    assert time.monotonic() - began < 30
    assert "does not answer" in done.stderr
    assert offline_rows(run) == [expected(5)]
    with WandbStub() as recovered:
        assert sync(recovered, run.path).returncode == 0
        assert server_rows(recovered) == expected(5)


def test_a_server_that_takes_it_and_forgets_is_noticed(
    run: RunDir, server: WandbStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run, 0, 5, "done", 0, "offline")
    monkeypatch.setattr(server, "stream", lambda *_: None)
    done = sync(server, run.path)
    assert done.returncode == 1
    assert "INCOMPLETE" in done.stderr


def test_a_server_that_does_not_tell_what_it_has_gets_nothing_twice(run: RunDir, server: WandbStub) -> None:
    train(run, 0, 10, "done", 0, "offline")
    assert sync(server, run.path).returncode == 0
    starts = server.run.starts
    server.mood = "unauthorized"
    done = sync(server, run.path)
    assert done.returncode == 1
    assert "INCOMPLETE: CommError" in done.stderr or "INCOMPLETE: AuthenticationError" in done.stderr
    assert server.run.starts == starts
    assert server_rows(server) == expected(10)


def test_a_folder_without_wandb_data_is_no_error(run: RunDir, server: WandbStub) -> None:
    assert (sync(server, run.path).returncode, sync(server, run.path / "none").returncode) == (0, 1)


def test_a_folder_of_runs_is_not_taken_for_one_that_is_synced(run: RunDir, server: WandbStub) -> None:
    (run.path / "wandb").mkdir()
    (run.path / "wandb" / "session.json").write_text("{}")
    done = sync(server, run.path.parent)
    assert done.returncode == 1
    assert f"this folder contains runs: use {run.path.parent}/*" in done.stderr


def test_folders_that_are_damaged_or_cannot_be_written_are_named(run: RunDir, server: WandbStub) -> None:
    (run.path / "wandb" / "lock").mkdir(parents=True)
    (run.path / "wandb" / "session.json").write_text("{")
    done = sync(server, run.path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "its folder cannot be written" in done.stderr
    (run.path / "wandb" / "lock").rmdir()
    done = sync(server, run.path)
    assert done.returncode == 1
    assert "session.json is damaged" in done.stderr
