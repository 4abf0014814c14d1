"""One checkpoint and its files onto the disk: whole or not at all, the newest few kept."""

import errno
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from blake3 import blake3

from dist_train.checkpoint import durable_file, writing
from dist_train.checkpoint.manifest import ExtraFile, Job
from dist_train.checkpoint.writing import Piece, answer_of, carry_out, write_checkpoint
from dist_train.system import files
from tests.support.states import manifest_of

HEADER, PAYLOAD = b"header", bytes(range(200))


def payload(begin: int, end: int) -> Iterable[Piece]:
    yield PAYLOAD[begin:end]


def _job(folder: Path, step: int, *extra: ExtraFile, rows: Path | None = None) -> Job:
    return Job(folder, rows, manifest_of(step), 2, HEADER, len(PAYLOAD), list(extra))


def test_a_job_becomes_a_checkpoint_and_its_files(tmp_path: Path) -> None:
    folder, best = tmp_path / "checkpoints", tmp_path / "best.safetensors"
    carry_out(_job(folder, 1, ExtraFile(best, b"head", [(3, 5), (190, 200)]), rows=tmp_path / "no rows yet"), payload)
    state = folder / "step_00000001" / "state.safetensors"
    assert state.read_bytes() == HEADER + PAYLOAD
    manifest = json.loads((folder / "step_00000001" / "manifest.json").read_text())
    assert (manifest["step"], manifest["bytes"]) == (1, len(HEADER + PAYLOAD))
    assert (manifest["algorithm"], manifest["digest"]) == ("blake3", blake3(HEADER + PAYLOAD).hexdigest())
    assert best.read_bytes() == b"head" + PAYLOAD[3:5] + PAYLOAD[190:]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (MemoryError(), "MemoryError"),
        (OSError(errno.EDQUOT, "Disk quota\nexceeded"), "Disk quota exceeded"),
    ],
)
def test_what_goes_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*args: object) -> int:
        raise error

    assert answer_of(_job(tmp_path, 1), payload) == ""
    monkeypatch.setattr(writing, "write_durably", fail)
    assert answer_of(_job(tmp_path, 2), payload) == f"{words} ({tmp_path})"
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"], "nothing is left of it"


def test_the_newest_are_kept_and_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / ".step_00000001.tmp").mkdir()
    (tmp_path / "damaged-step_00000000").mkdir()
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path, manifest_of(step), 2, lambda: [b"content"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["damaged-step_00000000", "step_00000003", "step_00000004"]


def test_a_checkpoint_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_checkpoint(tmp_path, manifest_of(1), 2, lambda content=content: [content])  # type: ignore[misc]
    assert (tmp_path / "step_00000001" / "state.safetensors").read_bytes() == b"first"


def test_an_error_that_a_disk_gets_over_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk fails twice and then works on demand, hence the stand-in for fsync."""
    failures = [errno.EIO, errno.ESTALE]

    def sync(fd: int) -> None:
        if failures:
            raise OSError(failures.pop(), "the disk is away")

    monkeypatch.setattr(durable_file, "sync", sync)
    monkeypatch.setattr(writing, "sync", sync)
    monkeypatch.setattr(files, "PAUSES_S", (0.01, 0.01))
    extra = ExtraFile(tmp_path / "best", b"head", [(0, 3)])
    folder = tmp_path / "checkpoints"
    carry_out(_job(folder, 1, extra), payload)
    assert not failures
    assert (folder / "step_00000001" / "state.safetensors").read_bytes() == HEADER + PAYLOAD
    assert extra.path.read_bytes() == b"head" + PAYLOAD[:3]
    failures += [errno.EIO] * 3
    with pytest.raises(OSError, match="the disk is away"):
        write_checkpoint(folder, manifest_of(2), 2, lambda: [b"content"])
    assert [path.name for path in folder.iterdir()] == ["step_00000001"], "the earlier one is intact, nothing is left"
