"""Folders of images: their layout, links, hidden folders, and what cannot be read."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dist_train.data.formats.folders import names_below
from dist_train.data.index import scan
from dist_train.errors import DataError
from tests.support.data_roots import data_config, names, picture

NOBODY = 65534


def test_an_image_folder_is_read_in_the_order_of_names(image_folder: Path) -> None:
    index = scan(data_config(image_folder))
    assert index.classes == ["class_a", "class_b", "class_c"]
    assert (index.task, index.outputs) == ("classification", 3)
    assert (len(index.train), len(index.val)) == (60, 23)
    assert names(index.train) == sorted(names(index.train))
    assert index.train.labels.dtype == np.int64
    for name, label in zip(names(index.train), index.train.labels, strict=True):
        assert f"class_{'abc'[label]}/" in name
    assert index.images.open(index.train.name(0)).pixels().shape[2] == 3


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`data.root` \(.*nowhere\) is not a directory; it must hold the images"):
        scan(data_config(tmp_path / "nowhere"))


def test_an_image_folder_without_its_parts(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"has no train/ folder; imagefolder expects train/<class>/ and val/<class>/"):
        scan(data_config(tmp_path))
    picture(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(DataError, match=r"has no validation folder; name it val/ .* or set `data.val_fraction`"):
        scan(data_config(tmp_path))
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"has no validation images"):
        scan(data_config(tmp_path))
    picture(tmp_path / "val" / "b" / "1.png")
    with pytest.raises(DataError, match=r"val has classes that .*train has not: b"):
        scan(data_config(tmp_path))
    shutil.rmtree(tmp_path / "train" / "a")
    with pytest.raises(DataError, match=r"has no class folders"):
        scan(data_config(tmp_path))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    for wnid in ("n01", "n02"):
        for number in range(2):
            picture(tmp_path / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
    for number in range(2):
        picture(tmp_path / "val" / "images" / f"val_{number}.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn01\t0\t0\t1\t1\nval_0.JPEG\tn02\t0\t0\t1\t1\n")
    return tmp_path


def test_tiny_imagenet_as_it_is_downloaded(tiny: Path) -> None:
    index = scan(data_config(tiny, format="tiny_imagenet"))
    assert index.classes == ["n01", "n02"]
    assert names(index.val) == ["val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    assert index.val.labels.tolist() == [1, 0]
    assert index.train.labels.tolist() == [0, 0, 1, 1]


def test_tiny_imagenet_with_gaps(tiny: Path) -> None:
    annotations = tiny / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text + "val_9.JPEG\tn01\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"names val_9.JPEG, which val/images has not"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.write_text(text + "\n")
    assert len(scan(data_config(tiny, format="tiny_imagenet")).val) == 2
    annotations.write_text(text + "val_1.JPEG n01")
    with pytest.raises(DataError, match=r"names class , which wnids.txt has not"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.write_text(text.replace("n01", "n77"))
    with pytest.raises(DataError, match=r"names class n77, which wnids.txt has not"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.unlink()
    with pytest.raises(DataError, match=r"lacks val/val_annotations.txt; is it the unpacked tiny-imagenet-200?"):
        scan(data_config(tiny, format="tiny_imagenet"))


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
    assert names(scan(data_config(two_classes)).train) == ["train/a/1.png", "train/a/more/2.png", "train/b/1.png"]
    loop = two_classes / "train" / "b" / "loop"
    for target in (".", "..", "../..", "../a"):
        loop.symlink_to(target)
        if target == "../a":  # each links to the other
            (two_classes / "train" / "a" / "back").symlink_to("../b")
        with pytest.raises(DataError, match=r"is a link to .*, in which it lies itself; remove the link"):
            scan(data_config(two_classes))
        loop.unlink()


def test_a_broken_link_and_a_pipe_are_told(two_classes: Path) -> None:
    odd = two_classes / "train" / "a" / "0.png"
    odd.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"a/0.png: No such file or directory; it is a broken link"):
        scan(data_config(two_classes))
    odd.unlink()
    os.mkfifo(odd)
    with pytest.raises(DataError, match=r"a/0.png: it is not a file"):
        scan(data_config(two_classes))


def test_hidden_files_and_folders_hold_no_images(two_classes: Path) -> None:
    picture(two_classes / "train" / "a" / ".ipynb_checkpoints" / "1-checkpoint.png")
    picture(two_classes / "train" / "a" / ".2.png")
    picture(two_classes / "train" / ".thumbnails" / "1.png")
    assert names(scan(data_config(two_classes)).train) == ["train/a/1.png", "train/b/1.png"]


def test_a_class_without_images_is_told(two_classes: Path) -> None:
    (two_classes / "train" / "b" / "1.png").rename(two_classes / "train" / "b" / "1.tga")
    with pytest.raises(
        DataError, match=r"train has class folders without images: b; remove them, or add images \(.jpg"
    ):
        scan(data_config(two_classes))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user, who may read less")
@pytest.mark.parametrize("closed", ["", "train", "train/a", "train/a/more"])
def test_a_folder_that_may_not_be_read_is_told(closed: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        for image in ("train/a/1.png", "train/a/more/2.png", "val/a/3.png"):
            picture(Path(name, image))
        Path(name).chmod(0o755)
        Path(name, closed).chmod(0o700)
        told = f"cannot read the folder {name}/{closed}" if closed else rf"`data.root` \({name}\)"
        cfg = data_config(Path(name))
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
