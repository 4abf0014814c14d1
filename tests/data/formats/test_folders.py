"""Folders of images: their layout, links, hidden folders, and what cannot be read."""

import os
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.data.formats.base import Held
from dist_train.data.index import DataIndex, evaluation_index, scan
from dist_train.errors import ConfigError, DataError
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
    with pytest.raises(
        DataError, match=r"has no train/ folder, but a; imagefolder expects train/<class>/ and val/<class>/"
    ):
        scan(data_config(tmp_path))
    picture(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(DataError, match=r"has no validation folder; name it val/ .* or set `data.val_fraction`"):
        scan(data_config(tmp_path))
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"has no validation images"):
        scan(data_config(tmp_path))
    picture(tmp_path / "val" / "b" / "1.png")
    with pytest.raises(DataError, match=r"val has classes that .*train does not have: b"):
        scan(data_config(tmp_path))
    shutil.rmtree(tmp_path / "train" / "a")
    with pytest.raises(DataError, match=r"has no class folders"):
        scan(data_config(tmp_path))


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
    with pytest.raises(DataError, match=r"train has class folders without images: b; remove them, add images \(.jpg"):
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


# split-named folders, and class folders that are none


def folders(root: Path, *names: str, images: int = 2) -> Path:
    """Write images ``<root>/<name>/<number>.png``."""
    for name in names:
        for number in range(images):
            picture(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("a", "b", "test/a", "test/b"), "test: a folder with the name of a split"),
        (("a", "b", "val", "test"), "test, val: a folder with the name of a split"),
        (("a", "b", "Validation set"), "Validation set: a folder"),
        (("train_images", "b"), "train_images: a folder"),
        (("TestSet2", "b"), "TestSet2: a folder"),
        (("seg_train/a", "seg_train/b", "seg_test/a", "seg_test/b"), "seg_test, seg_train: a folder"),
        (("fold1/a", "fold1/b", "fold2/a", "fold2/b"), "fold1, fold2: a folder"),
        (("a/train", "a/test", "b/train", "b/test"), "a/test, a/train, b/test, b/train: a split lies inside"),
        (("a", "b", "results/a", "results/b"), "results: the images of this class folder lie deeper"),
        (("a", "b", "archive/old/c"), "archive: the images of this class folder lie deeper"),
    ],
)
def test_a_folder_that_is_no_class_is_refused_by_name(tmp_path: Path, names: tuple[str, ...], refused: str) -> None:
    root = folders(tmp_path, *names)
    with pytest.raises(DataError, match=refused):
        scan(data_config(root, val_fraction=0.5))
    lenient = scan(data_config(root, val_fraction=0.5), strict=False)
    assert refused in lenient.refused[0]
    assert lenient.classes == sorted({name.split("/")[0] for name in names}), "a resume reads them as before"


def test_a_split_folder_below_train_is_refused_too(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/train/a", "train/train/b", "train/val/a", "train/val/b", "val/val/a")
    with pytest.raises(DataError, match=r"/train: train, val: a folder with the name of a split"):
        scan(data_config(root))


@pytest.mark.parametrize(
    "names", [("crash_test", "test_tube"), ("attest", "valley"), ("2019", "2020"), ("a b", "fold")]
)
def test_names_that_only_resemble_those_of_splits_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert scan(data_config(folders(tmp_path, *names), val_fraction=0.5)).classes == sorted(names)


def test_listed_classes_are_taken_as_they_are_named(tmp_path: Path) -> None:
    root = folders(tmp_path, "test", "a", "results/deep", "val")
    index = scan(data_config(root, val_fraction=0.5, classes=["test", "results", "a"]))
    assert index.classes == ["test", "results", "a"]
    assert {name.split("/")[0]: int(label) for name, label in zip(names(index.train), index.train.labels, strict=True)} == {
        "test": 0, "results": 1, "a": 2
    }  # fmt: skip
    assert f"folders of {root} that `data.classes` does not name are left aside: val" in index.notes
    with pytest.raises(ConfigError, match=r"`data.classes` names b, c; .* has no such folder"):
        scan(data_config(root, val_fraction=0.5, classes=["a", "b", "c"]))


def test_a_validation_class_that_is_not_listed_is_left_aside(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/a", "train/b", "val/a", "val/b", "val/c")
    index = scan(data_config(root, classes=["b", "a"]))
    assert {name.split("/")[1] for name in names(index.val)} == {"a", "b"}
    assert any("that are no class of the run are left aside: c" in note for note in index.notes)


def test_a_test_folder_is_never_the_validation_set_unnoticed(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/a", "train/b", "test/a", "test/b", images=4)
    with pytest.raises(DataError, match=r"/test: there is no validation folder, .* set `data.val_fraction`"):
        scan(data_config(root))
    assert names(scan(data_config(root), strict=False).val)[0] == "test/a/0.png", "as version 0.1.0 read it"
    drawn = scan(data_config(root, val_fraction=0.25))
    assert {name.split("/")[0] for name in (*names(drawn.train), *names(drawn.val))} == {"train"}


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/a", "train/b", "val/a", "valid/a", "masks/a", "test/a")
    notes = scan(data_config(root)).notes
    assert f"the validation set is {root / 'val'}; valid is not read" in notes
    assert "folders of `data.root` that are not read: masks" in notes
    assert "classes without validation images: b" in notes


def test_subfolders_that_look_like_the_classes_are_told(tmp_path: Path) -> None:
    root = folders(tmp_path, "photo/cat", "photo/dog", "sketch/cat", "sketch/dog")
    (note,) = scan(data_config(root, val_fraction=0.5)).notes
    assert "holds the folders cat, dog; if these are the classes, `data.root` is a folder too high" in note
    for folder in ("photo", "sketch"):
        shutil.rmtree(root / folder / "dog")
    assert scan(data_config(root, val_fraction=0.5)).notes == (), "one folder, such as images/, is no level of classes"


# files and folders that are left aside


def test_files_that_are_not_read_are_counted_by_class_and_suffix(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/a", "train/b", "train/c", "val/a", "val/b", "val/c")
    for name in (
        "c/1.heic",
        "c/2.HEIC",
        "c/deep/3.heic",
        "b/noname",
        "b/Thumbs.db",
        "a/.hidden.heic",
        "loose.png",
        "l.csv",
    ):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).touch()
    notes = scan(data_config(root)).notes
    assert f"4 files in 2 classes of {root / 'train'} left aside (.heic: 3, no suffix: 1): b, c" in notes
    assert f"2 files beside the class folders of {root / 'train'} left aside (.csv: 1, images: 1)" in notes
    assert len(notes) == 2


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "lost+found", "deep/#recycle"])
def test_copies_that_the_system_made_are_refused(two_classes: Path, name: str) -> None:
    picture(two_classes / "train" / "a" / name / "1.jpg" / "thumb.jpg")
    with pytest.raises(
        DataError, match=rf"train/a/{re.escape(name)}/1.jpg: images in a folder .* which no one filled by hand"
    ):
        scan(data_config(two_classes))
    assert len(scan(data_config(two_classes), strict=False).train) == 3


@pytest.mark.parametrize(
    ("link", "target"),
    [("train/c", "a"), ("train/a/more", "../b"), ("train/a/more", "../b/deep"), ("train/c", "b/deep"), ("val/c", "a")],
)
def test_a_class_folder_that_is_a_link_to_another_is_refused(two_classes: Path, link: str, target: str) -> None:
    picture(two_classes / "train" / "b" / "deep" / "2.png")
    if link == "val/c":
        folders(two_classes, "train/c")
    (two_classes / link).symlink_to(target)
    with pytest.raises(DataError, match=r"leads to images of the class folder .* too, and an image has one class"):
        scan(data_config(two_classes))


def test_two_links_to_one_folder_are_refused(two_classes: Path) -> None:
    picture(two_classes / "pool" / "deep" / "2.png")
    (two_classes / "train" / "c").symlink_to("../pool")
    (two_classes / "train" / "b" / "more").symlink_to("../../pool/deep")
    with pytest.raises(DataError, match=r"train/b/more: leads to images of the class folder .*train/c too"):
        scan(data_config(two_classes))


# names


def test_class_folders_are_matched_in_any_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    root = folders(tmp_path, f"train/{decomposed}", "train/b", f"val/{composed}", "val/b")
    index = scan(data_config(root))
    assert index.classes == ["b", decomposed]
    assert index.val.labels.tolist() == [0, 0, 1, 1]
    assert scan(data_config(root, classes=[composed, "b"])).train.labels.tolist() == [1, 1, 0, 0]
    folders(root, f"train/{composed}")
    with pytest.raises(DataError, match=r"these names look the same, but have other characters"):
        scan(data_config(root))


# one split, for an evaluation


def of_a_run(root: Path, split: Held, **keys: Any) -> DataIndex:
    return evaluation_index(data_config(root, **keys), split, ["c", "a", "b"])


def labels(index: DataIndex) -> dict[str, int]:
    return dict(zip(names(index.val), index.val.labels.tolist(), strict=True))


def test_a_split_is_read_with_the_classes_of_the_run(tmp_path: Path) -> None:
    root = folders(tmp_path, "train/a", "val/a", "val/b", "test/a", "test/c", "test/d", "held/b", images=1)
    assert labels(of_a_run(root, "val")) == {"val/a/0.png": 1, "val/b/0.png": 2}
    index = of_a_run(root, "test")
    assert labels(index) == {"test/a/0.png": 1, "test/c/0.png": 0}
    assert (index.classes, len(index.train)) == (["c", "a", "b"], 0)
    assert index.notes == (
        f"folders of {root / 'test'} that are no class of the run are left aside: d",
        f"{root / 'test'} has no images of these classes of the run: b",
    )
    assert labels(of_a_run(root, "test", test="held")) == {"held/b/0.png": 2}


def test_a_split_alone_and_flat_class_folders(tmp_path: Path) -> None:
    assert labels(of_a_run(folders(tmp_path / "1", "val/a", images=1), "val")) == {"val/a/0.png": 1}
    assert labels(of_a_run(folders(tmp_path / "2", "a", "c", images=1), "val")) == {"a/0.png": 1, "c/0.png": 0}
    assert labels(of_a_run(folders(tmp_path / "3", "a", "c", images=1), "test")) == {"a/0.png": 1, "c/0.png": 0}
    old = folders(tmp_path / "4", "train/a", "test/a", images=1)
    assert labels(of_a_run(old, "val")) == {"test/a/0.png": 1}, "as version 0.1.0 validated"
    with pytest.raises(
        DataError, match=r"has no test folder \(test or testing\), and no folder of a class .*`data.test`"
    ):
        of_a_run(folders(tmp_path / "5", "val/a"), "test")


def test_the_part_that_a_run_validated_on_is_read_again(tmp_path: Path) -> None:
    root = folders(tmp_path, "a", "b", "c", images=7)
    keys = {"val_fraction": 0.3}
    trained = scan(data_config(root, **keys))
    again = of_a_run(root, "val", **keys)
    assert names(again.val) == names(trained.val)
    assert [again.classes[label] for label in again.val.labels] == [
        trained.classes[label] for label in trained.val.labels
    ]
    folders(root, "val/a", images=1)
    assert labels(of_a_run(root, "val", **keys)) == {"val/a/0.png": 1}


def test_a_named_test_folder_beside_the_classes_is_no_class(tmp_path: Path) -> None:
    root = folders(tmp_path, "a", "b", "test/a", "test/b", images=4)
    keys = {"val_fraction": 0.25, "test": "test"}
    assert scan(data_config(root, **keys)).classes == ["a", "b"]
    assert len(of_a_run(root, "test", **keys).val) == 8
