"""Which files below a folder are images, and what else is noted."""

from collections import Counter
from pathlib import Path

import pytest

from dist_train.data.formats.walk import (
    Surroundings,
    file_sizes,
    files_of,
    left_aside,
    names_below,
    sizes_of,
    subfolders_of,
)
from dist_train.data.stored import slow_disks
from dist_train.data.stored.survey import surveyed
from dist_train.errors import DataError
from tests.support.data_roots import picture


def test_every_ending_of_a_jpeg_or_avif_file_counts(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpeg", "c.jfif", "d.avif", "e.txt", "f"):
        (tmp_path / name).touch()
    assert list(names_below(tmp_path, tmp_path)) == ["a.JPG", "b.jpeg", "c.jfif", "d.avif"]


def test_what_lies_beside_the_images_is_noted(tmp_path: Path) -> None:
    picture(tmp_path / "root" / "a" / "1.png")
    picture(tmp_path / "root" / "a" / "deep" / "er" / "2.png")
    picture(tmp_path / "pool" / "3.png")
    (tmp_path / "root" / "a" / "link").symlink_to("../../pool")
    for name in ("a/x.HEIC", "a/deep/y", "a/.hidden", "a/desktop.ini"):
        (tmp_path / "root" / name).touch()
    around = Surroundings()
    found = list(names_below(tmp_path / "root" / "a", tmp_path / "root", around))
    assert found == ["a/1.png", "a/deep/er/2.png", "a/link/3.png"]
    assert around.left_aside == Counter({".heic": 1, "": 1})
    assert around.folders == [".", "deep/er", "link"]
    assert around.links == [(str(tmp_path / "root" / "a" / "link"), str(tmp_path / "pool"))]


def test_visible_files_and_folders(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "1.png")
    picture(tmp_path / ".c" / "1.png")
    (tmp_path / "a.txt").touch()
    assert (subfolders_of(tmp_path), files_of(tmp_path)) == (["b"], ["a.txt"])
    assert left_aside(["a.txt", "b.PNG", "Thumbs.db", "c"]) == Counter({".txt": 1, "": 1})


def test_a_root_that_has_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the folder .*/gone: No such file or directory"):
        file_sizes(str(tmp_path / "gone"), ["1.png"])


@pytest.mark.parametrize("slow_s", [slow_disks.SLOW_S, -1])
def test_sizes_of_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_s: float) -> None:
    """One thread and many return the same sizes and times; a missing file has none."""
    monkeypatch.setattr(slow_disks, "SLOW_S", slow_s)
    names = [f"folder/{number}" for number in range(300)]
    (tmp_path / "folder").mkdir()
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes(number))
    (tmp_path / "link").symlink_to("nowhere")
    absolute = str(tmp_path / "folder" / "7")
    with surveyed() as survey:
        assert [*sizes_of(str(tmp_path), names)] == [*range(300)]
        assert [*sizes_of(str(tmp_path), ["folder", "a\0b", absolute, "absent"])] == [None, None, 7, None]
    assert survey.changed_ns == {name: (tmp_path / name).stat().st_mtime_ns for name in [*names, absolute]}
    with pytest.raises(DataError, match="/link: No such file or directory; it is a broken link"):
        file_sizes(str(tmp_path), [*names, "link", "absent"])
