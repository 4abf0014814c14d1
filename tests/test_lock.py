"""Two starts of one run: the second is refused, unless the first is dead."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dist_train import lock as lock_module
from dist_train.errors import ConfigError
from dist_train.lock import RunLock

HOLD = "import sys, time, pathlib; from dist_train.lock import RunLock; RunLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"


def _holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_live_owner_on_this_host_is_respected_a_dead_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.lock"
    holder = _holder(path)
    try:
        with pytest.raises(
            ConfigError, match=rf"is being worked on by process {holder.pid} on host .*choose another `run\.name`"
        ):
            RunLock(path).acquire()
    finally:
        holder.kill()
        holder.communicate()
    lock = RunLock(path)
    began = time.monotonic()
    lock.acquire()
    assert time.monotonic() - began < 2, "on the same host nothing has to be waited for"
    assert json.loads(path.read_text())["pid"] == os.getpid()
    lock.release()
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_an_owner_on_another_host_is_judged_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(lock_module, "DEAD_AFTER_S", 1.0)
    path = tmp_path / "run.lock"
    elsewhere = {"host": "node9", "boot": "x", "pid": 1, "started": 1, "job": None, "restart": 0}
    path.write_text(json.dumps(elsewhere))
    began = time.monotonic()
    lock = RunLock(path)
    lock.acquire()
    assert time.monotonic() - began >= 1.0
    lock.release()

    path.write_text(json.dumps(elsewhere))
    beating = subprocess.Popen(
        [sys.executable, "-c", f"import os, time\nfor _ in range(200): os.utime({str(path)!r}); time.sleep(.05)"]
    )
    try:
        with pytest.raises(ConfigError, match="process 1 on host node9"):
            RunLock(path).acquire()
    finally:
        beating.kill()
        beating.wait()


def test_an_earlier_start_of_the_same_slurm_job_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "node9", "boot": "x", "pid": 1, "started": 1, "job": "77", "restart": 1}))
    began = time.monotonic()
    lock = RunLock(path)
    lock.acquire()
    assert time.monotonic() - began < 2
    lock.release()
