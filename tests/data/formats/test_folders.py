"""What may lie in a folder of images beside images: links, hidden folders, what cannot be read."""

import os
import tempfile
from pathlib import Path

import pytest

from dist_train.data.formats.folders import names_below
from dist_train.data.index import scan
from dist_train.errors import DataError
from tests.data.test_index import data, names, picture

NOBODY = 65534


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """One image of each of two classes in each split."""
    for split in ("train", "val"):
        for label in "ab":
            picture(tmp_path / split / label / "1.png")
    return tmp_path


def test_links_are_followed_but_not_in_circles(two_classes: Path) -> None:
    picture(two_classes / "more" / "2.png")
    (two_classes / "train" / "a" / "more").symlink_to(two_classes / "more")
    assert names(scan(data(two_classes)).train) == ["train/a/1.png", "train/a/more/2.png", "train/b/1.png"]
    loop = two_classes / "train" / "b" / "loop"
    for target in (".", "..", "../..", "../a"):
        loop.symlink_to(target)
        if target == "../a":  # each links to the other
            (two_classes / "train" / "a" / "back").symlink_to("../b")
        with pytest.raises(DataError, match=r"is a link to .*, in which it lies itself; remove the link"):
            scan(data(two_classes))
        loop.unlink()


def test_a_broken_link_and_a_pipe_are_told(two_classes: Path) -> None:
    odd = two_classes / "train" / "a" / "0.png"
    odd.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"a/0.png: No such file or directory; it is a broken link"):
        scan(data(two_classes))
    odd.unlink()
    os.mkfifo(odd)
    with pytest.raises(DataError, match=r"a/0.png: it is not a file"):
        scan(data(two_classes))


def test_hidden_files_and_folders_hold_no_images(two_classes: Path) -> None:
    picture(two_classes / "train" / "a" / ".ipynb_checkpoints" / "1-checkpoint.png")
    picture(two_classes / "train" / "a" / ".2.png")
    picture(two_classes / "train" / ".thumbnails" / "1.png")
    assert names(scan(data(two_classes)).train) == ["train/a/1.png", "train/b/1.png"]


def test_a_class_without_images_is_told(two_classes: Path) -> None:
    (two_classes / "train" / "b" / "1.png").rename(two_classes / "train" / "b" / "1.tga")
    with pytest.raises(
        DataError, match=r"train has class folders without images: b; remove them, or add images \(.jpg"
    ):
        scan(data(two_classes))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user, who may read less")
@pytest.mark.parametrize("closed", ["", "train", "train/a", "train/a/more"])
def test_a_folder_that_may_not_be_read_is_told(closed: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        for image in ("train/a/1.png", "train/a/more/2.png", "val/a/3.png"):
            picture(Path(name, image))
        Path(name).chmod(0o755)
        Path(name, closed).chmod(0o700)
        told = f"cannot read the folder {name}/{closed}" if closed else rf"`data.root` \({name}\)"
        cfg = data(Path(name))
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            with pytest.raises(DataError, match=f"{told}: Permission denied"):
                scan(cfg)
        finally:
            os.setresuid(0, 0, 0)


def test_every_ending_of_a_jpeg_or_avif_file_counts(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpeg", "c.jfif", "d.avif", "e.txt", "f"):
        (tmp_path / name).touch()
    assert list(names_below(tmp_path, tmp_path)) == ["a.JPG", "b.jpeg", "c.jfif", "d.avif"]
