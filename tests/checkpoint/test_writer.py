"""The process that writes checkpoints: what it puts on disk, what it answers, and what it leaves behind."""

import errno
import json
import os
import pickle
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dist_train.checkpoint import writer
from dist_train.checkpoint.manifest import ExtraFile, Job, Manifest
from dist_train.system import files

HEADER, PAYLOAD = b"header", bytes(range(200))


def _manifest(step: int) -> Manifest:
    return Manifest(step, False, world_size=1, data_fingerprint="f", config={})


def _serve(*jobs: Job) -> list[str]:
    """The answers of a writer in a process that cannot import torch."""
    memory = os.memfd_create("payload")
    os.write(memory, PAYLOAD + b"what an earlier, longer state has left")
    code = (
        "import sys; sys.modules['torch'] = None; from dist_train.checkpoint.writer import main; main(int(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(memory)],
        input=b"".join(map(pickle.dumps, (*jobs, None))),
        stdout=subprocess.PIPE,
        pass_fds=[memory],
        check=True,
        timeout=60,
    )
    os.close(memory)
    return done.stdout.decode().splitlines()


def test_a_job_becomes_a_checkpoint_and_its_files(tmp_path: Path) -> None:
    folder, best = tmp_path / "checkpoints", tmp_path / "best.safetensors"
    extra = ExtraFile(best, b"head", [(3, 5), (190, 200)])
    blocked = tmp_path / "file"
    blocked.touch()
    assert _serve(
        Job(folder, None, _manifest(1), 2, HEADER, len(PAYLOAD), [extra]),
        Job(blocked, None, _manifest(2), 2, HEADER, len(PAYLOAD), []),
        Job(folder, tmp_path / "no rows yet", _manifest(3), 2, HEADER, len(PAYLOAD), []),
    ) == ["", f"File exists ({blocked})", ""], "an error ends its own job only"
    state = folder / "step_00000001" / "state.safetensors"
    assert state.read_bytes() == HEADER + PAYLOAD
    manifest = json.loads((folder / "step_00000001" / "manifest.json").read_text())
    assert (manifest["step"], manifest["bytes"]) == (1, len(HEADER + PAYLOAD))
    assert manifest["sha256"] == sha256(HEADER + PAYLOAD).hexdigest()
    assert best.read_bytes() == b"head" + PAYLOAD[3:5] + PAYLOAD[190:]


def test_the_newest_are_kept_and_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / ".step_00000001.tmp").mkdir()
    (tmp_path / "damaged-step_00000000").mkdir()
    for step in (1, 2, 3, 4):
        writer.write_checkpoint(tmp_path, _manifest(step), 2, [memoryview(b"content")])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["damaged-step_00000000", "step_00000003", "step_00000004"]


def test_a_checkpoint_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        writer.write_checkpoint(tmp_path, _manifest(1), 2, [memoryview(content)])
    assert (tmp_path / "step_00000001" / "state.safetensors").read_bytes() == b"first"


def test_an_error_that_a_disk_gets_over_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk fails twice and then works on demand, hence the stand-in for fsync."""
    failures = [errno.EIO, errno.ESTALE]

    def sync(file: Any) -> None:
        if failures:
            raise OSError(failures.pop(), "the disk is away")
        file.flush()

    monkeypatch.setattr(writer, "_sync", sync)
    monkeypatch.setattr(files, "PAUSES_S", (0.01, 0.01))
    writer.write_checkpoint(tmp_path, _manifest(1), 2, [memoryview(b"content")])
    assert not failures
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    failures += [errno.EIO] * 3
    with pytest.raises(OSError, match="the disk is away"):
        writer.write_checkpoint(tmp_path, _manifest(2), 2, [memoryview(b"content")])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"], "the earlier one is intact, nothing is left"
