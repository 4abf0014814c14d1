"""A file that is on disk as a whole, whatever its pieces and its file system."""

import errno
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_train.checkpoint import durable_file
from dist_train.checkpoint.durable_file import ALIGNMENT, BLOCK, BLOCKS, write_durably

SIZES = [
    [],
    [0],
    [1],
    [ALIGNMENT],
    [BLOCK],
    [BLOCK * BLOCKS, 7],
    [3, BLOCK - 3, 5, 0, ALIGNMENT],
    [BLOCK - 1, 2, 2 * BLOCK, BLOCK * BLOCKS + 11],
]


def _pieces(sizes: list[int]) -> list[memoryview]:
    random = memoryview(os.urandom(max(sizes, default=0) + len(sizes)))
    return [random[number : number + size] for number, size in enumerate(sizes)]  # at addresses that are not aligned


@pytest.fixture(params=["the disk", "no O_DIRECT", "refused at the first write"])
def disk(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """File systems: the one of the temporary folder, a ramfs, and one that opens a file with O_DIRECT but cannot write it."""
    if request.param == "no O_DIRECT":
        if subprocess.run(["mount", "-t", "ramfs", "ramfs", str(tmp_path)], capture_output=True).returncode:
            pytest.skip("mounting a ramfs needs root")
        with pytest.raises(OSError, match="Invalid argument"):
            os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    if request.param == "refused at the first write":
        monkeypatch.setattr(durable_file.os, "write", _refusing_direct(os.write))
    yield tmp_path
    if request.param == "no O_DIRECT":
        subprocess.run(["umount", str(tmp_path)], check=True)


def _refusing_direct(write: object) -> object:
    import fcntl

    def refusing(fd: int, content: memoryview) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "this file system has no O_DIRECT")
        return write(fd, content)  # type: ignore[operator, no-any-return]

    return refusing


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_file_is_its_pieces(disk: Path, sizes: list[int]) -> None:
    pieces, digest = _pieces(sizes), hashlib.sha256()
    (disk / "file").write_bytes(b"what was there before, and is longer" * 1000)
    assert write_durably(disk / "file", pieces, digest) == sum(sizes)
    content = b"".join(pieces)
    assert (disk / "file").read_bytes() == content
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()


def test_a_write_that_takes_a_part_only_goes_on_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a limit of a quota, or after a signal. After an odd number of bytes O_DIRECT is refused."""
    write = os.write
    monkeypatch.setattr(durable_file.os, "write", lambda fd, content: write(fd, content[: max(1, len(content) // 2)]))
    pieces = _pieces([BLOCK + 5 * ALIGNMENT, 3])
    write_durably(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_full_disk_is_an_error_and_no_thread_is_left(tmp_path: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(tmp_path)], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs needs root")
    threads, opened = threading.active_count(), len(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(OSError, match="No space left"):
            write_durably(tmp_path / "file", _pieces([BLOCK] * 6))
        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == opened
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_an_error_in_the_pieces_is_raised(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"some"
        raise RuntimeError("the device is lost")

    with pytest.raises(RuntimeError, match="the device is lost"):
        write_durably(tmp_path / "file", pieces())
