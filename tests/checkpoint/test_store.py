"""Checkpoints are complete, verified and limited in number; a failing disk gives a clear error."""

import fcntl
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.checkpoint.background_writer import BackgroundWriter
from dist_train.checkpoint.store import Checkpoints, SaveError
from dist_train.checkpoint.stored import load
from dist_train.loggers.base import Facts
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.model.weights import load_weights
from dist_train.run.folder import RunDir
from dist_train.system.processes import alive
from tests.support.ranks import RankFailure, run_ranks
from tests.support.states import manifest_of, state_of

UNUSED: Any = None


def _process(checkpoints: Checkpoints) -> "subprocess.Popen[bytes]":
    assert isinstance(checkpoints._writer, BackgroundWriter)
    return checkpoints._writer.process


@pytest.fixture(params=["full", "low"])
def checkpoints(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    made = Checkpoints(tmp_path / "checkpoints", keep=2, memory=request.param)
    yield made
    made.close()


def test_a_state_comes_back_as_it_was_when_save_was_called(checkpoints: Checkpoints) -> None:
    state = state_of(1.0)
    checkpoints.save(state, manifest_of(3))
    state["model"]["a"].fill_(99)  # training goes on while the writer works
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    path, manifest = found
    assert (path.name, manifest.step, manifest.world_size) == ("step_00000003", 3, 2)
    assert manifest.config == {"optim.lr": 0.1}
    loaded, expected = load(path), state_of(1.0)
    torch.testing.assert_close(loaded, expected, rtol=0, atol=0)
    assert loaded["half"].dtype == torch.bfloat16


def test_only_the_newest_are_kept_and_growing_states_fit(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in range(1, 5):
        checkpoints.save({"a": torch.arange(step * 1000)}, manifest_of(step))
    checkpoints.save({"a": torch.arange(10)}, manifest_of(4, evaluated=True))
    checkpoints.wait()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_00000004", "step_00000004-evaluated"]
    found = checkpoints.newest()
    assert found is not None
    assert found[0].name == "step_00000004-evaluated"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which can lose its power."""
    image, mounted = tmp_path / "image", tmp_path / "disk"
    mounted.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 * 2**20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mounted)]):
        if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting an image needs root")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def _lose_power(disk: Path) -> None:
    """Forget what the disk has not been told to keep."""
    shutdown, without_flushing = 0x8004587D, 2  # ext4's ioctl
    fd = os.open(disk, os.O_RDONLY)
    fcntl.ioctl(fd, shutdown, struct.pack("I", without_flushing))
    os.close(fd)
    subprocess.run(["umount", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk.with_name("image")), str(disk)], check=True)


def test_after_a_power_loss_there_are_the_rows_up_to_the_checkpoint(disk: Path) -> None:
    run = RunDir(disk)
    rows = run.metrics
    checkpoints = Checkpoints(disk / "checkpoints", keep=2, rows=rows)
    logger = JsonlLogger()
    logger.start(UNUSED, Facts(run, total_steps=1))
    logger.row({"step": 1, "split": "train", "loss": 0.5})
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.close()
    logger.close("stopped")
    _lose_power(disk)
    found = Checkpoints(disk / "checkpoints", keep=2).newest()
    assert found is not None
    assert found[1].step == 1
    assert rows.read_text() == '{"step": 1, "split": "train", "loss": 0.5}\n'


def test_what_belongs_to_a_checkpoint_appears_with_it(disk: Path) -> None:
    """Weights are the state's as it was when ``save`` was called; after a power loss all of it is there."""
    checkpoints, state = Checkpoints(disk / "checkpoints", keep=2), state_of(1)
    best, predictions = disk / "best.safetensors", disk / "predictions.npz"
    checkpoints.save(state, manifest_of(1), {best: "model", predictions: b"said"})
    state["model"]["a"].fill_(99)
    checkpoints.close()
    _lose_power(disk)
    assert (disk / "checkpoints" / "step_00000001").is_dir()
    torch.testing.assert_close(load_weights(best), state_of(1)["model"], rtol=0, atol=0)
    assert predictions.read_bytes() == b"said"
    assert not list(disk.glob(".*staged"))


def test_what_belongs_to_a_checkpoint_that_cannot_be_written_does_not_appear(tmp_path: Path) -> None:
    checkpoints, best = Checkpoints(tmp_path / "checkpoints", keep=2), tmp_path / "best.safetensors"
    checkpoints.save(state_of(1), manifest_of(1), {best: "model"})
    checkpoints.wait()
    before = best.read_bytes()
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("in the way")
    checkpoints.save(state_of(2), manifest_of(2), {best: "model"})
    with pytest.raises(SaveError, match="step_00000002 could not be written"):
        checkpoints.close()
    assert best.read_bytes() == before


def test_a_vanished_run_folder_is_told_by_the_next_poll(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    checkpoints = Checkpoints(run / "checkpoints", keep=2)
    run.rmdir()
    checkpoints.save(state_of(1), manifest_of(1))
    deadline = time.monotonic() + 60
    with pytest.raises(SaveError, match=r"step_00000001 could not be written: No such file or directory .*intact"):
        while time.monotonic() < deadline:
            checkpoints.poll()
            time.sleep(0.01)
    checkpoints.close()


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    """A real full disk: a tmpfs of 1 MB, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        checkpoints = Checkpoints(disk / "checkpoints", keep=5)
        checkpoints.save(state_of(1), manifest_of(1))
        checkpoints.wait()
        checkpoints.save({"a": torch.zeros(10**6)}, manifest_of(2))
        with pytest.raises(SaveError, match="No space left on device"):
            checkpoints.close()
        found = Checkpoints(disk / "checkpoints", keep=5).newest()
        assert found is not None
        assert found[1].step == 1
        assert sorted(path.name for path in (disk / "checkpoints").iterdir()) == ["step_00000001"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _save_with_small_files(folder: Path) -> str:
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        checkpoints.save({"a": torch.zeros(10**6)}, manifest_of(1))
    except SaveError as error:
        return str(error)
    return "saved"


def test_a_limit_for_the_size_of_files_is_named(tmp_path: Path) -> None:
    (message,) = run_ranks(1, _save_with_small_files, tmp_path / "checkpoints")
    assert message == "`ulimit -f`, the limit for the size of a file, is too low for a copy of the state: raise it"


def test_a_killed_writer_is_told(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    process = _process(checkpoints)
    process.kill()
    process.wait()
    with pytest.raises(SaveError, match=r"died \(exit code -9\)"):
        checkpoints.save(state_of(2), manifest_of(2))
        checkpoints.wait()
    checkpoints.close()


def test_a_writer_that_cannot_start_is_an_error_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    checkpoints.start()
    with pytest.raises(SaveError, match=r"died \(exit code 1\) during its start"):
        checkpoints.wait()
    checkpoints.close()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(SaveError, match="cannot start: No such file or directory"):
        Checkpoints(tmp_path / "checkpoints", keep=2).start()


def test_low_memory_takes_no_copy_and_writes_the_same_file(tmp_path: Path) -> None:
    state, files = state_of(1) | {"large": torch.rand(5 * 2**20)}, []
    for memory in ("full", "low"):
        folder = tmp_path / memory
        folder.mkdir()
        checkpoints = Checkpoints(folder / "checkpoints", keep=2, memory=memory)
        checkpoints.save(state, manifest_of(1), {folder / "best": "model", folder / "said": b"said"})
        assert (folder / "checkpoints" / "step_00000001").exists() or memory == "full", "low: done when save returns"
        checkpoints.close()
        written = [
            "best",
            "said",
            "checkpoints/step_00000001/state.safetensors",
            "checkpoints/step_00000001/manifest.json",
        ]
        files.append([(folder / name).read_bytes() for name in written])
    assert files[0] == files[1]


def test_after_an_error_elsewhere_the_write_in_flight_gets_its_time_and_nothing_is_left(tmp_path: Path) -> None:
    opened = set(os.listdir("/proc/self/fd"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(state_of(1), manifest_of(1))
    pid = _process(checkpoints).pid
    checkpoints.finish(20.0)
    checkpoints.abandon()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert not alive(pid)
    assert set(os.listdir("/proc/self/fd")) == opened
    checkpoints.abandon()


def test_a_write_that_hangs_is_given_up(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    os.kill(_process(checkpoints).pid, signal.SIGSTOP)
    checkpoints.save(state_of(2), manifest_of(2))
    pid, began = _process(checkpoints).pid, time.monotonic()
    checkpoints.finish(0.5)
    checkpoints.abandon()
    assert time.monotonic() - began < 5
    assert not alive(pid)
    assert [path.name for path in (tmp_path / "checkpoints").glob("step_*")] == ["step_00000001"]


def _save_and_die(folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(state_of(1), manifest_of(1))
    checkpoints.wait()
    (folder / "writer").write_text(str(_process(checkpoints).pid))
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_writer_does_not_outlive_its_trainer(tmp_path: Path) -> None:
    with pytest.raises(RankFailure):
        run_ranks(1, _save_and_die, tmp_path)
    pid, deadline = int((tmp_path / "writer").read_text()), time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
