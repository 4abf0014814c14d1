"""The lock of an upload."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from dist_train.loggers.upload.lock import alone_with


def test_one_uploader_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with alone_with(path, wait_s=0.0) as first, alone_with(path, wait_s=0.0) as second:
        assert (first, second) == (True, False)
    with alone_with(path, wait_s=0.0) as again:
        assert again


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_the_file_system_has_no_locks_the_upload_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with alone_with(tmp_path / "lock", wait_s=60.0) as alone:
        assert alone


def test_it_does_not_empty_the_file_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"), alone_with(tmp_path / "lock", wait_s=0):
        pass
    assert (tmp_path / "mine").read_text() == "precious"
