"""Checkpoints are complete, verified and limited in number; a failing disk gives a clear error."""

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints, ReadError, SaveError, load
from dist_train.errors import ConfigError
from dist_train.loggers.base import Facts
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.model.weights import load_weights
from dist_train.run.folder import RunDir
from dist_train.system.processes import alive
from tests.support.ranks import RankFailure, run_ranks

UNUSED: Any = None


def _manifest(step: int, evaluated: bool = False) -> Manifest:
    return Manifest(step, evaluated, world_size=2, data_fingerprint="f", config={"optim.lr": 0.1})


def _state(value: float) -> dict[str, Any]:
    return {
        "model": {"a": torch.full((3, 5), value), "n": torch.tensor(7), "empty": torch.empty(0, 4)},
        "half": torch.full((7,), value, dtype=torch.bfloat16),
        "groups": [{"lr": value, "params": [0, 1]}],
        "none": None,
    }


@pytest.fixture
def checkpoints(tmp_path: Path) -> Any:
    made = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield made
    made.close()


def test_a_state_comes_back_as_it_was_when_save_was_called(checkpoints: Checkpoints) -> None:
    state = _state(1.0)
    checkpoints.save(state, _manifest(3))
    state["model"]["a"].fill_(99)  # training goes on while the writer works
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    path, manifest = found
    assert (path.name, manifest.step, manifest.world_size) == ("step_00000003", 3, 2)
    assert manifest.config == {"optim.lr": 0.1}
    loaded, expected = load(path), _state(1.0)
    torch.testing.assert_close(loaded, expected, rtol=0, atol=0)
    assert loaded["half"].dtype == torch.bfloat16


def test_only_the_newest_are_kept_and_growing_states_fit(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in range(1, 5):
        checkpoints.save({"a": torch.arange(step * 1000)}, _manifest(step))
    checkpoints.save({"a": torch.arange(10)}, _manifest(4, evaluated=True))
    checkpoints.wait()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_00000004", "step_00000004-evaluated"]
    found = checkpoints.newest()
    assert found is not None
    assert found[0].name == "step_00000004-evaluated"


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "half a manifest", "no state"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    import logging

    monkeypatch.setattr(logging.getLogger("dist_train"), "propagate", True)
    for step in (1, 2):
        checkpoints.save(_state(step), _manifest(step))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    state, manifest = found[0] / "state.safetensors", found[0] / "manifest.json"
    match damage:
        case "truncate":
            os.truncate(state, state.stat().st_size - 1)
        case "flip":
            content = bytearray(state.read_bytes())
            content[len(content) // 2] ^= 1
            state.write_bytes(content)
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:40])
        case "no state":
            state.unlink()
    again = checkpoints.newest()
    assert again is not None
    assert again[0].name == "step_00000001"
    assert "checkpoint step_00000002 is damaged" in caplog.text
    assert (found[0].parent / "damaged-step_00000002").is_dir()


@pytest.mark.parametrize("unreadable", ["manifest.json", "."])
def test_what_cannot_be_read_now_is_not_given_up(checkpoints: Checkpoints, tmp_path: Path, unreadable: str) -> None:
    """A path that leads in circles stands for a disk that is away for a moment, or that is another user's."""
    for step in (1, 2):
        checkpoints.save(_state(step), _manifest(step))
    checkpoints.wait()
    path = tmp_path / "checkpoints" if unreadable == "." else tmp_path / "checkpoints" / "step_00000002" / unreadable
    path.rename(tmp_path / "kept")
    path.symlink_to(path)
    with pytest.raises(ReadError, match="cannot be read: Too many levels of symbolic links; fix the disk"):
        checkpoints.newest()
    path.unlink()
    (tmp_path / "kept").rename(path)
    found = checkpoints.newest()
    assert found is not None
    assert found[1].step == 2


def test_a_look_sets_nothing_aside(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """``--check`` writes nothing, also beside a run that goes on."""
    for step in (1, 2):
        checkpoints.save(_state(step), _manifest(step))
    checkpoints.wait()
    os.truncate(tmp_path / "checkpoints" / "step_00000002" / "state.safetensors", 10)
    found = checkpoints.newest(only_look=True)
    assert found is not None
    assert found[1].step == 1
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000001", "step_00000002"]


def test_another_format_is_refused_not_set_aside(checkpoints: Checkpoints) -> None:
    checkpoints.save(_state(1), _manifest(1))
    checkpoints.wait()
    found = checkpoints.newest()
    assert found is not None
    manifest = json.loads((found[0] / "manifest.json").read_text())
    (found[0] / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ConfigError, match="has format 99, but this version reads 1"):
        checkpoints.newest()
    assert found[0].is_dir()


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
    checkpoints.save(_state(1), _manifest(1))
    checkpoints.close()
    logger.close("stopped")
    _lose_power(disk)
    found = Checkpoints(disk / "checkpoints", keep=2).newest()
    assert found is not None
    assert found[1].step == 1
    assert rows.read_text() == '{"step": 1, "split": "train", "loss": 0.5}\n'


def test_what_belongs_to_a_checkpoint_appears_with_it(disk: Path) -> None:
    """Weights are the state's as it was when ``save`` was called; after a power loss all of it is there."""
    checkpoints, state = Checkpoints(disk / "checkpoints", keep=2), _state(1)
    best, predictions = disk / "best.safetensors", disk / "predictions.npz"
    checkpoints.save(state, _manifest(1), {best: "model", predictions: b"said"})
    state["model"]["a"].fill_(99)
    checkpoints.close()
    _lose_power(disk)
    assert (disk / "checkpoints" / "step_00000001").is_dir()
    torch.testing.assert_close(load_weights(best), _state(1)["model"], rtol=0, atol=0)
    assert predictions.read_bytes() == b"said"
    assert not list(disk.glob(".*staged"))


def test_what_belongs_to_a_checkpoint_that_cannot_be_written_does_not_appear(tmp_path: Path) -> None:
    checkpoints, best = Checkpoints(tmp_path / "checkpoints", keep=2), tmp_path / "best.safetensors"
    checkpoints.save(_state(1), _manifest(1), {best: "model"})
    checkpoints.wait()
    before = best.read_bytes()
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("in the way")
    checkpoints.save(_state(2), _manifest(2), {best: "model"})
    with pytest.raises(SaveError, match="step_00000002 could not be written"):
        checkpoints.close()
    assert best.read_bytes() == before


def test_a_vanished_run_folder_is_told_by_the_next_poll(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    checkpoints = Checkpoints(run / "checkpoints", keep=2)
    run.rmdir()
    checkpoints.save(_state(1), _manifest(1))
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
        checkpoints.save(_state(1), _manifest(1))
        checkpoints.wait()
        checkpoints.save({"a": torch.zeros(10**6)}, _manifest(2))
        with pytest.raises(SaveError, match="No space left on device"):
            checkpoints.close()
        found = Checkpoints(disk / "checkpoints", keep=5).newest()
        assert found is not None
        assert found[1].step == 1
        assert sorted(path.name for path in (disk / "checkpoints").iterdir()) == ["step_00000001"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_killed_writer_is_told(checkpoints: Checkpoints) -> None:
    checkpoints.save(_state(1), _manifest(1))
    checkpoints.wait()
    assert checkpoints._writer is not None
    checkpoints._writer.kill()
    checkpoints._writer.wait()
    with pytest.raises(SaveError, match="died"):
        checkpoints.save(_state(2), _manifest(2))
        checkpoints.wait()


def test_after_an_error_elsewhere_the_write_in_flight_gets_its_time_and_nothing_is_left(tmp_path: Path) -> None:
    opened = set(os.listdir("/proc/self/fd"))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(_state(1), _manifest(1))
    assert checkpoints._writer is not None
    pid = checkpoints._writer.pid
    checkpoints.finish(20.0)
    checkpoints.abandon()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert not alive(pid)
    assert set(os.listdir("/proc/self/fd")) == opened
    checkpoints.abandon()


def test_a_write_that_hangs_is_given_up(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(_state(1), _manifest(1))
    checkpoints.wait()
    assert checkpoints._writer is not None
    os.kill(checkpoints._writer.pid, signal.SIGSTOP)
    checkpoints.save(_state(2), _manifest(2))
    pid, began = checkpoints._writer.pid, time.monotonic()
    checkpoints.finish(0.5)
    checkpoints.abandon()
    assert time.monotonic() - began < 5
    assert not alive(pid)
    assert [path.name for path in (tmp_path / "checkpoints").glob("step_*")] == ["step_00000001"]


def _save_and_die(folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(_state(1), _manifest(1))
    checkpoints.wait()
    assert checkpoints._writer is not None
    (folder / "writer").write_text(str(checkpoints._writer.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_writer_does_not_outlive_its_trainer(tmp_path: Path) -> None:
    with pytest.raises(RankFailure):
        run_ranks(1, _save_and_die, tmp_path)
    pid, deadline = int((tmp_path / "writer").read_text()), time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
