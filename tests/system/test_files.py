"""Files are complete or absent."""

import json
import math
import os
import signal
from pathlib import Path

import pytest

from dist_train.system.files import (
    MISSING,
    atomic_write,
    fault_of_file,
    fingerprint,
    json_text,
    read_json,
    remove_leftovers,
    sha256_of,
    write_json,
)
from tests.support.denied import another_user, public_folder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with atomic_write(target) as file:
        file.write(b"old")
    with pytest.raises(RuntimeError), atomic_write(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_two_who_write_at_once_do_not_meet(tmp_path: Path) -> None:
    """As ranks on two hosts that fail together: in containers their process ids are often the same."""
    target = tmp_path / "result.json"
    with atomic_write(target) as first, atomic_write(target) as second:
        first.write(b"first")
        second.write(b"second")
    assert target.read_bytes() == b"first", "the one that was renamed last"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["best.safetensors", "scores [1].csv", "*.csv", "?[!a]"])
def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path, name: str) -> None:
    target, other = tmp_path / name, tmp_path / ".last.csv.0a1b2c3d.tmp"
    pid = os.fork()
    if pid == 0:
        with atomic_write(target) as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    other.touch()
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(target)
    assert list(tmp_path.iterdir()) == [other]


def test_json_comes_back_and_damage_is_the_default(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None]}
    (tmp_path / "a.json").write_text('{"a": [1,')
    assert read_json(tmp_path / "a.json", default=7) == 7
    assert read_json(tmp_path / "nothing.json", default=8) == 8


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_what_json_cannot_say_is_null(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}], "d": True, "e": None}
    assert json.loads(json_text(value)) == {"a": None, "b": [None, {"c": [None, 1.5]}], "d": True, "e": None}
    write_json(tmp_path / "a.json", value)
    assert "NaN" not in (tmp_path / "a.json").read_text()
    assert json_text({"a": 0.1 + 0.2}) == '{"a": 0.30000000000000004}'


def test_why_a_file_cannot_be_read() -> None:
    with public_folder() as folder:
        (folder / "closed").mkdir()
        for name in ("own", "closed/inside"):
            (folder / name).touch()
        (folder / "link").symlink_to("nowhere")
        (folder / "loop").symlink_to("loop")
        (folder / "closed").chmod(0)
        os.mkfifo(folder / "pipe")
        faults = {
            "own": "",
            "none": MISSING,
            "link": "is a link to a file that does not exist",
            ".": "is a folder",
            "own/below": "cannot be read: Not a directory",
            "closed/inside": "cannot be read: Permission denied",
            "loop": "cannot be read: Too many levels of symbolic links",
            "x" * 300: "cannot be read: File name too long",
            "a\0b": "cannot be read: embedded null byte",
            "pipe": "cannot be read: it is not a regular file",
        }
        with another_user():
            found = {name: fault_of_file(folder / name) for name in faults}
    assert found == faults
