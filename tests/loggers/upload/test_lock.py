"""The lock of an upload."""

from pathlib import Path

import pytest

from dist_train.loggers.upload.lock import alone_with


def test_one_uploader_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with alone_with(path, wait_s=0.0) as first, alone_with(path, wait_s=0.0) as second:
        assert (first, second) == (True, False)
    with alone_with(path, wait_s=0.0) as again:
        assert again


def test_it_does_not_empty_the_file_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"), alone_with(tmp_path / "lock", wait_s=0):
        pass
    assert (tmp_path / "mine").read_text() == "precious"
