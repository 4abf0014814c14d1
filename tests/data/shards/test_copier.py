"""Copies of archives: complete or absent; a full disk, another process, a change meanwhile."""

import errno
import fcntl
import io
import json
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dist_train.data.index import scan
from dist_train.data.shards import copier
from dist_train.data.shards.copier import Job, copy_all, main
from dist_train.errors import DataError
from dist_train.system.terminal import restored_log
from tests.support.archives import image_bytes, tar_of
from tests.support.data_roots import data_config

FILES = {f"{split}/{name}/1.png": image_bytes(90) for split in ("train", "val") for name in "ab"}


def job(tmp_path: Path, name: str = "all") -> Job:
    path = tar_of(tmp_path / "in" / f"{name}.tar", FILES)
    (tmp_path / "node").mkdir(exist_ok=True)
    status = path.stat()
    return str(path), str(tmp_path / "node" / f"{name}.tar"), status.st_size, status.st_mtime_ns


def test_images_come_from_the_copy_once_it_is_there(tmp_path: Path) -> None:
    mine = job(tmp_path)
    images: Any = scan(data_config(tmp_path / "in", format="tar")).images
    images = replace(images, copies=(mine[1],))
    assert images.content("train/a/1.png") == FILES["train/a/1.png"]
    assert copy_all([mine]) == [mine]
    assert copy_all([mine]) == []
    Path(mine[0]).unlink()
    assert images.content("train/a/1.png") == FILES["train/a/1.png"]
    assert os.listdir(tmp_path / "node") == ["all.tar"]


@pytest.mark.parametrize("damage", ["cut", "older"])
def test_a_copy_that_differs_is_not_read(tmp_path: Path, damage: str) -> None:
    mine = job(tmp_path)
    images: Any = replace(scan(data_config(tmp_path / "in", format="tar")).images, copies=(mine[1],))
    copy_all([mine])
    Path(mine[1]).write_bytes(bytes(mine[2] - (damage == "cut")))
    assert images.content("val/b/1.png") == FILES["val/b/1.png"]


def test_a_part_without_digests_is_made_again(tmp_path: Path) -> None:
    mine = job(tmp_path)
    Path(mine[1] + ".part").write_bytes(b"half")
    assert copy_all([mine]) == [mine]
    assert Path(mine[1]).read_bytes() == Path(mine[0]).read_bytes()


@pytest.mark.parametrize(("damaged", "first"), [(None, 3), (1, 1), (0, 0)])
def test_an_interrupted_copy_goes_on_after_its_last_good_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: int | None, first: int
) -> None:
    monkeypatch.setattr(copier, "BLOCK", 512)
    mine = job(tmp_path)
    read: list[int] = []

    class Stops(io.FileIO):
        """An archive whose fourth block cannot be read at first."""

        def read(self, size: int = -1) -> bytes:
            read.append(self.tell())
            if len(read) == 4:
                raise DataError("the network is gone")
            return super().read(size) or b""

    monkeypatch.setattr(copier, "opened", Stops)
    assert copy_all([mine]) == []
    assert os.path.getsize(mine[1] + ".part") == 3 * 512
    if damaged is not None:
        with open(mine[1] + ".part", "r+b") as part:
            part.seek(512 * damaged)
            part.write(b"?")
    read += [0]
    assert copy_all([mine]) == [mine]
    assert read[5] == 512 * first
    assert Path(mine[1]).read_bytes() == Path(mine[0]).read_bytes()
    assert os.listdir(tmp_path / "node") == ["all.tar"]


def test_a_copy_that_another_process_has_just_finished_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = job(tmp_path)
    lock = fcntl.flock

    def finished_meanwhile(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        assert copy_all([mine]) == [mine]

    monkeypatch.setattr(fcntl, "flock", finished_meanwhile)
    assert copy_all([mine]) == []
    assert Path(mine[1]).read_bytes() == Path(mine[0]).read_bytes()
    assert os.stat(mine[1]).st_mtime_ns == mine[3]


def test_what_another_process_copies_is_left_to_it(tmp_path: Path) -> None:
    mine = job(tmp_path)
    with open(mine[1] + ".part", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert copy_all([mine]) == []
        assert Path(mine[1] + ".part").exists()
    assert copy_all([mine], [0.0]) == [mine]


def test_a_disk_without_locks_is_told_and_images_come_from_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    mine = job(tmp_path)
    assert copy_all([mine], [0.0]) == []
    assert "cannot copy" in caplog.text
    assert "Function not implemented; it is read from where it is" in caplog.text


def test_an_archive_that_has_changed_is_not_copied(tmp_path: Path) -> None:
    mine = job(tmp_path)
    os.utime(mine[0], (5, 5))
    assert copy_all([mine]) == []
    assert os.listdir(tmp_path / "node") == []


def test_copies_of_others_make_room_and_no_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    mine = job(tmp_path)
    other = tmp_path / "node" / "other.tar"
    other.touch()

    def statvfs(folder: Path) -> os.statvfs_result:
        blocks = 100 if not other.exists() else 10
        return os.statvfs_result((1 << 20, 1 << 20, 100, blocks, blocks, 9, 9, 9, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    huge = (mine[0], str(tmp_path / "node" / "huge.tar"), 96 << 20, mine[3])
    assert copy_all([mine]) == [mine]
    assert other.exists()
    assert copy_all([huge], [0.0]) == []
    assert not other.exists()
    assert caplog.text.count("has no room for") == 1
    assert "read from where they are" in caplog.text
    images: Any = replace(scan(data_config(tmp_path / "in", format="tar")).images, copies=(huge[1],))
    assert images.content("train/a/1.png") == FILES["train/a/1.png"]


def test_an_archive_that_cannot_be_read_is_told_once_and_tried_again(tmp_path: Path, caplog: Any) -> None:
    missing, other = job(tmp_path), job(tmp_path, "other")
    content = Path(missing[0]).read_bytes()
    Path(missing[0]).unlink()

    def waits() -> Iterator[float]:
        yield 0.0
        yield 0.0
        Path(missing[0]).write_bytes(content)
        os.utime(missing[0], ns=(missing[3], missing[3]))
        yield 0.0

    assert copy_all([missing, other], waits()) == [other, missing]
    assert caplog.text.count("cannot copy") == 1
    assert "No such file or directory; it is read from where it is, and tried again later" in caplog.text


def test_a_disk_that_fills_up_meanwhile_is_told_and_images_come_from_the_archive(tmp_path: Path, caplog: Any) -> None:
    mine = job(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        copied = copy_all([mine], [0.0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert copied == []
    assert caplog.text.count("cannot copy") == 1
    assert "File too large; it is read from where it is" in caplog.text
    assert os.listdir(tmp_path / "node") == []
    images: Any = replace(scan(data_config(tmp_path / "in", format="tar")).images, copies=(mine[1],))
    assert images.content("train/a/1.png") == FILES["train/a/1.png"]


def test_the_process_writes_to_the_log_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    mine = job(tmp_path)
    monkeypatch.setattr("dist_train.system.progress.REPORT_EVERY_S", -1.0)
    for name in ("die_with_parent", "os.nice"):
        monkeypatch.setattr(f"dist_train.data.shards.copier.{name}", lambda *args: None)
    monkeypatch.setattr("sys.argv", ["copier", "0"])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([mine])))
    with restored_log():
        main()
    said = capsys.readouterr().out
    assert f"data.stage: copying 1 archives: {mine[2]:,} of {mine[2]:,} bytes (100%) after 0 s" in said
    assert "data.stage: 1 archives (0.00 GB) copied in 0 s" in said
