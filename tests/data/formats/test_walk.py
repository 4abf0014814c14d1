"""Which files below a folder are images, and what else is noted."""

import os
from collections import Counter
from pathlib import Path

import pytest

from dist_train.data.formats.base import IMAGE_SUFFIXES
from dist_train.data.formats.walk import Surroundings, _images_among, files_of, left_aside, names_below, subfolders_of
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


def test_what_is_no_plain_file_is_noted(tmp_path: Path) -> None:
    """Images among them are found; a scan without sizes looks only at these files."""
    folder = tmp_path / "root"
    for name in ("root/a.png", "elsewhere/b.png"):
        picture(tmp_path / name)
    (folder / "folder.jpg").mkdir()
    picture(folder / "folder.jpg" / "c.png")
    (folder / "d.png").symlink_to("../elsewhere/b.png")
    (folder / "e.png").symlink_to("nowhere")
    (folder / "notes").symlink_to("nowhere")
    os.mkfifo(folder / "f.png")
    (folder / ".hidden.png").symlink_to("a.png")
    around = Surroundings()
    assert list(names_below(folder, folder, around)) == ["a.png", "d.png", "e.png", "f.png", "folder.jpg/c.png"]
    assert around.others == ["d.png", "e.png", "f.png"]
    assert around.left_aside == Counter({"": 1})


NAMES = [
    "a.jpg",
    "b.JPEG",
    "c.Jpg",
    "d.tiff",
    "e.tif",
    "f.png.txt",
    "g",
    "jpg",
    "h.jpgx",
    "Σ.PNG",
    "ΑΣ.png",
    "K.jpg",
    "i..gif",
]


@pytest.mark.parametrize(
    "names", [NAMES, NAMES[:5], [*NAMES, ".a.jpg"], [".jpg"], ["a.jpg\n", "b\n.jpg"], ["a.jpg", "..png"], []]
)
def test_names_are_sorted_out_together_as_one_by_one(names: list[str]) -> None:
    visible = sorted(name for name in names if name[:1] != ".")
    around = Surroundings()
    assert _images_among(list(names), around) == [name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)]
    assert around.left_aside == left_aside(visible)
