"""Two starts of one run: the second is refused, unless the first is dead."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_train.errors import ConfigError, TakenError
from dist_train.run import lock as lock_module
from dist_train.run.lock import RunLock, held_by_another
from dist_train.system.processes import children

FULL = """
import pathlib, resource, sys
from dist_train.run.lock import RunLock
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    RunLock(pathlib.Path(sys.argv[1])).acquire()
except OSError as error:
    print(error.filename)
"""
HOLD = """
import pathlib, sys, time
from dist_train.run import lock
lock.HEARTBEAT_S = 0.05
lock.RunLock(pathlib.Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def _holder(path: Path, *before: str) -> subprocess.Popen[str]:
    """A process that holds the lock; ``before`` is a command that starts it."""
    command = [*before, sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_disk_without_room_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path}/.run.lock.")
    assert not list(tmp_path.iterdir())


def test_a_live_owner_on_this_host_is_respected_a_dead_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.lock"
    holder = _holder(path)
    try:
        with pytest.raises(
            ConfigError, match=rf"process {holder.pid} on host .* is working on the run .*choose another `run\.name`"
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lock_module, "DEAD_AFTER_S", 1.5)  # a busy machine lets a heartbeat wait


CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def contained(tmp_path: Path, quick: None) -> Iterator[subprocess.Popen[str]]:
    """An owner in a container of this host: its name is ours, its process ids are not."""
    if subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("process namespaces need root")
    holder = _holder(tmp_path / "run.lock", *CONTAINER)
    yield holder
    holder.kill()
    holder.communicate()


def test_an_owner_in_a_container_is_judged_by_its_heartbeat(tmp_path: Path, contained: "subprocess.Popen[str]") -> None:
    assert json.loads((tmp_path / "run.lock").read_text())["host"] == os.uname().nodename
    with pytest.raises(TakenError):
        RunLock(tmp_path / "run.lock").acquire()


def test_an_owner_that_was_taken_for_dead_leaves_the_run_to_the_new_one(
    tmp_path: Path, contained: "subprocess.Popen[str]"
) -> None:
    """As a laptop that slept does."""
    (inside,) = children(contained.pid)
    os.kill(inside, signal.SIGSTOP)
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    os.kill(inside, signal.SIGCONT)
    assert contained.wait(10) == 1
    assert contained.stdout is not None
    assert f"process {os.getpid()} on host {os.uname().nodename} took over {tmp_path}" in contained.stdout.read()
    assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    lock.release()


def test_the_lock_of_somebody_else_is_not_released(tmp_path: Path, quick: None) -> None:
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    lock._ended.set()
    (tmp_path / "run.lock").write_text("{}")
    lock.release()
    assert (tmp_path / "run.lock").read_text() == "{}"


def test_a_copied_run_folder_is_free(tmp_path: Path, quick: None) -> None:
    """Somebody tries another ending of a run while the run goes on."""
    lock = RunLock(tmp_path / "run" / "run.lock")
    lock.acquire()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    other = RunLock(tmp_path / "copy" / "run.lock")
    other.acquire()
    other.release()
    assert lock._path.exists()
    lock.release()


def test_a_lock_that_somebody_removed_is_made_again(tmp_path: Path, quick: None) -> None:
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    lock._path.unlink()
    deadline = time.monotonic() + 5
    while not lock._path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(TakenError):
        RunLock(tmp_path / "run.lock").acquire()
    lock.release()


def test_an_owner_whose_run_folder_is_moved_ends(tmp_path: Path) -> None:
    """Otherwise it would make a new folder, and write one half of the run there."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    holder = _holder(run / "run.lock")
    run.rename(moved)
    assert holder.wait(10) == 1
    assert "was moved or removed" in holder.communicate()[0]
    assert not run.exists()


def test_a_program_is_called_instead(tmp_path: Path, quick: None) -> None:
    lost = threading.Event()
    lock = RunLock(tmp_path / "run" / "run.lock", lost.set)
    lock.acquire()
    (tmp_path / "run").rename(tmp_path / "moved")
    assert lost.wait(5)
    lock.release()
    assert (tmp_path / "moved" / "run.lock").exists(), "what is not ours any more is not touched"


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some network disks have none; there is none of them here, hence the stand-in."""

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    with pytest.raises(TakenError):
        RunLock(tmp_path / "run.lock").acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_whether_another_process_seems_to_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.lock"
    assert not held_by_another(path)
    lock = RunLock(path)
    lock.acquire()
    assert not held_by_another(path)
    mine = json.loads(path.read_text())
    lock.release()
    parent = os.getppid()
    started = int(Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[19])
    for owner, held in (({"pid": parent, "started": started}, True), ({"pid": parent, "started": 1}, False)):
        path.write_text(json.dumps(mine | owner))
        assert held_by_another(path) == held
    path.write_text(json.dumps(mine | {"host": "elsewhere"}))
    assert held_by_another(path)
    os.utime(path, (1, 1))
    assert not held_by_another(path)
