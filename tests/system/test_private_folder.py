"""Folders and files on a machine that others use too."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.system.private_folder import create_own, open_own, private_folder, refuse_shared, temporary_folder

OTHER = 54321
"""A user who is not us."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_ours_alone(tmp_path: Path) -> None:
    assert mode(private_folder(tmp_path / "new", "data.cache")) == 0o700


def test_an_old_folder_of_ours_is_closed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o777)
    assert mode(private_folder(tmp_path / "old", "data.cache")) == 0o700


def test_a_link_to_a_folder_of_ours_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    private_folder(tmp_path / "link", "data.cache")
    assert mode(tmp_path / "target") == 0o700


@pytest.mark.parametrize("kind", ["file", "link to nothing", "pipe"])
def test_something_else_of_that_name_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "name"
    {"file": path.touch, "link to nothing": lambda: path.symlink_to("nothing"), "pipe": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(ConfigError, match=r"`data.cache`: .*name cannot be .*choose another folder"):
        private_folder(path, "data.cache")


@as_root
@pytest.mark.parametrize("kind", ["folder", "link", "target"])
def test_what_another_user_made_before_us_is_refused(tmp_path: Path, kind: str) -> None:
    made, path = tmp_path / "made", tmp_path / ("made" if kind == "folder" else "link")
    made.mkdir()
    made.chmod(0o777)
    if path != made:
        path.symlink_to(made)
    os.chown(path if kind == "link" else made, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(ConfigError, match=rf"`data.cache`: .*{path.name} belongs to another user \(uid {OTHER}\)"):
        private_folder(path, "data.cache")
    assert mode(made) == 0o777


@as_root
def test_another_user_can_neither_list_nor_read_it(tmp_path: Path) -> None:
    open_to_all = tmp_path
    while open_to_all != Path("/tmp") and open_to_all != Path(
        "/"
    ):  # pytest closes its folders, here for this test only
        open_to_all.chmod(0o755)
        open_to_all = open_to_all.parent
    folder = private_folder(tmp_path / "mine", "data.cache")
    (folder / "pixels").write_text("private")
    code = f"import os; os.setgid({OTHER}); os.setuid({OTHER}); print(open({str(folder / 'pixels')!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "PermissionError" in done.stderr
    assert done.stdout == ""


def test_a_folder_in_which_others_can_write_holds_no_code(tmp_path: Path) -> None:
    refuse_shared(tmp_path / "missing", "TORCHINDUCTOR_CACHE_DIR")
    tmp_path.chmod(0o755)
    refuse_shared(tmp_path, "TORCHINDUCTOR_CACHE_DIR")
    tmp_path.chmod(0o775)
    with pytest.raises(ConfigError, match=r"`TORCHINDUCTOR_CACHE_DIR`: other users can write to .*chmod go-w"):
        refuse_shared(tmp_path, "TORCHINDUCTOR_CACHE_DIR")


def test_a_file_of_ours_is_opened_and_one_that_others_may_change_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    path.chmod(0o644)
    file = open_own(path, "data.cache")
    assert file is not None
    target = memoryview(bytearray(4))
    file.read(3, target)
    assert (bytes(target), file.size) == (b"3456", 10)
    with pytest.raises(EOFError):
        file.read(8, target)
    for rights in (0o664, 0o646):
        path.chmod(rights)
        assert open_own(path, "data.cache") is None


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o600)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "missing"):
        assert open_own(tmp_path / name, "data.cache") is None


@as_root
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o600)
    os.chown(tmp_path / "file", OTHER, OTHER)
    with pytest.raises(ConfigError, match=r"`data.cache`: .*belongs to another user"):
        open_own(tmp_path / "file", "data.cache")
    with pytest.raises(ConfigError, match=r"`data.cache`: .*belongs to another user"):
        create_own(tmp_path / "file", "data.cache")


def test_a_file_for_writing_is_created_kept_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create_own(path, "data.cache").write(2, memoryview(b"abc"))
    assert (path.read_bytes(), mode(path)) == (b"\0\0abc", 0o600)
    assert create_own(path, "data.cache").size == 5
    path.chmod(0o620)
    assert create_own(path, "data.cache").size == 0
    path.unlink()
    os.mkfifo(path, 0o600)
    assert create_own(path, "data.cache").size == 0
    assert (path.is_file(), mode(path)) == (True, 0o600)


def test_a_file_is_opened_for_writing_whatever_its_name_is_now(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    file = open_own(path, "data.cache")
    assert file is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(0, memoryview(b"1"))
    path.rename(tmp_path / "other")
    file.for_writing().write(0, memoryview(b"1"))
    assert (tmp_path / "other").read_bytes() == b"1"
    (tmp_path / "other").unlink()
    file.for_writing().write(0, memoryview(b"2"))
    assert file.size == 1


def test_each_user_has_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert temporary_folder() == tmp_path / f"dist_train-{os.geteuid()}"


def test_without_temporary_files_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    monkeypatch.delenv("TMPDIR", raising=False)
    with pytest.raises(ConfigError, match=r"`TMPDIR` \(not set\) must be a folder that .*`export TMPDIR=FOLDER`"):
        temporary_folder()
