"""A process of its own is started again after a kill, and ended within a time limit."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.loggers.upload import process as upload_process
from dist_train.loggers.upload.process import MAX_RESTARTS, Uploader
from dist_train.run.folder import RunDir

STANDIN = """
import pathlib, sys, time
pathlib.Path(sys.argv[1], "started").touch()
message = sys.stdin.readline()
pathlib.Path(sys.argv[1], "message").write_text(message)
time.sleep({sleep_s})
"""
said: list[str] = []


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Uploader]:
    said.clear()

    def begin(sleep_s: float = 0.0) -> Uploader:
        (tmp_path / "standin.py").write_text(STANDIN.format(sleep_s=sleep_s))
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        return Uploader("standin", RunDir(tmp_path), lambda: env, said.append, "Do this.")

    return begin


def living(uploader: Uploader) -> "subprocess.Popen[bytes]":
    assert uploader._process is not None
    return uploader._process


def test_it_gets_the_status_and_its_end_is_awaited(start: Callable[..., Uploader], tmp_path: Path) -> None:
    start().close("done")
    message = (tmp_path / "message").read_text()
    assert '"status": "done", "exit_code": 0, "limit_s": ' in message
    assert said == []


def test_what_hangs_at_the_end_is_killed_after_the_limit(
    start: Callable[..., Uploader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(upload_process.CLOSE_LIMITS_S, "stopped", 0.5)
    uploader = start(sleep_s=60)
    process = living(uploader)
    uploader.close("stopped")
    assert process.returncode == -signal.SIGKILL
    assert said == ["gave up after 0 s. Do this."]


def test_a_failed_attempt_does_not_wait(start: Callable[..., Uploader], tmp_path: Path) -> None:
    uploader = start(sleep_s=60)
    process = living(uploader)
    began = time.monotonic()
    uploader.close("failed")
    assert time.monotonic() - began < 10
    assert process.poll() is None
    process.kill()
    process.wait()


def test_a_killed_one_is_replaced_and_given_up_after_a_few_times(start: Callable[..., Uploader]) -> None:
    uploader = start()
    for _ in range(1 + MAX_RESTARTS):
        process = living(uploader)
        process.kill()
        process.wait()
        uploader.restart_if_dead()
    assert uploader._process is None
    assert said == ["the uploader died 4 times; training continues without this upload. Do this."]
    uploader.close("done")
