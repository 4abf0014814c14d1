"""Archives and their splits."""

import os
import zipfile
from pathlib import Path

import pytest

from dist_train.data.index import evaluation_index, scan
from dist_train.data.shards.archives import split_of
from dist_train.data.shards.members import Aside, walk_order
from dist_train.data.shards.zip_members import zip_members
from dist_train.errors import DataError
from tests.support.archives import image_bytes, tar_of, zip_of
from tests.support.data_roots import data_config, names

PNG = image_bytes()


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.tar", "train"), ("train-00001.tar", "train"), ("train/00001.tar", "train"), ("training_000.tar", "train"),
        ("imagenet1k-validation-17.tar", "val"), ("Valid.tar", "val"), ("test.tar", "test"), ("trains.tar", ""), ("a.tar", ""),
        ("train-val.tar", ""), ("photos/a.train.tar", ""), ("held/0.tar", ""),
    ],
)  # fmt: skip
def test_split_of(path: str, split: str) -> None:
    assert split_of(path) == split


def test_the_test_set_has_the_name_that_the_config_gives() -> None:
    assert split_of("held/0.tar", "held") == split_of("held.tar", "held") == "test"


def test_names_come_in_the_order_of_a_folder(tmp_path: Path) -> None:
    found = ["a/10.png", "a/b/0.png", "a/1.png", "a/B/2.png"]
    assert sorted(found, key=walk_order) == ["a/1.png", "a/10.png", "a/B/2.png", "a/b/0.png"]


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    files = {f"{split}/{name}/1.png": PNG for split in ("train", "val") for name in "ab"}
    odd = {
        "../train/a/evil.png": PNG,
        "train/a/notes.txt": b"x",
        "train/a/.hidden.png": PNG,
        "__MACOSX/train/a/1.png": PNG,
    }
    tar_of(tmp_path / "all.tar", {f"./{name}": content for name, content in (files | odd).items()})
    index = scan(data_config(tmp_path, format="tar"))
    assert names(index.train) == ["train/a/1.png", "train/b/1.png"]
    assert any("left aside: 1 names with .. or without a name, 1 files .txt" in note for note in index.notes)


def test_what_no_path_may_be_so_long_as_is_left_aside(tmp_path: Path) -> None:
    files = {f"{split}/{name}/1.png": PNG for split in ("train", "val") for name in "ab"}
    tar_of(tmp_path / "all.tar", files | {f"train/a/{'x' * 5000}.png": PNG})
    index = scan(data_config(tmp_path, format="tar"))
    assert index.train.paths.itemsize < 20
    assert any("left aside: 1 names of more than 4,096 characters" in note for note in index.notes)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_with_names_in_capital_letters(tmp_path: Path, kind: str) -> None:
    write = tar_of if kind == "tar" else zip_of
    for split in ("train", "VAL"):
        write(tmp_path / f"{split}.{kind.upper()}", {f"{name}/1.PNG": PNG for name in "ab"})  # type: ignore[operator]
    assert names(scan(data_config(tmp_path, format=kind)).val) == ["val/a/1.PNG", "val/b/1.PNG"]


def test_an_error_says_what_no_image_is_read_of(tmp_path: Path) -> None:
    zip_of(tmp_path / "train.zip", {"a/1.png": PNG, "a/notes.txt": b""}, zipfile.ZIP_LZMA)
    with pytest.raises(
        DataError,
        match=r"no training images \(members of archives that are left aside: 2 files that are encrypted, or packed",
    ):
        scan(data_config(tmp_path, format="zip", val_fraction=0.5))


def test_a_folder_around_everything_is_left_out(tmp_path: Path) -> None:
    tar_of(
        tmp_path / "all.tar", {f"flowers/v2/{split}/{name}/1.png": PNG for split in ("train", "val") for name in "ab"}
    )
    assert names(scan(data_config(tmp_path, format="tar")).val) == ["val/a/1.png", "val/b/1.png"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        tar_of(tmp_path / f"train-{number}.tar", {"a/1.png": PNG, "b/1.png": PNG})
    with pytest.raises(
        DataError, match=r"the archives train-0.tar, train-1.tar hold two images with the name train/a/1.png"
    ):
        scan(data_config(tmp_path, format="tar", val_fraction=0.5))


def test_an_image_without_a_class_is_named(tmp_path: Path) -> None:
    tar_of(tmp_path / "train.tar", {"1.png": PNG})
    with pytest.raises(DataError, match=r"train.tar: '1.png' has no class: write <class>/image for all"):
        scan(data_config(tmp_path, format="tar", val_fraction=0.5))


@pytest.mark.parametrize("label", [b"\xff\xfe", b"\n", None])
def test_a_label_that_is_missing_or_no_text(tmp_path: Path, label: bytes | None) -> None:
    files = {"1.png": PNG, "1.cls": b"3", "2.png": PNG} | ({"2.cls": label} if label else {})
    tar_of(tmp_path / "train.tar", files)
    with pytest.raises(DataError, match=r"'2.png' has no class|'2.cls' must hold a class as text"):
        scan(data_config(tmp_path, format="tar", val_fraction=0.5))


def test_other_images_of_a_webdataset_sample_are_left_aside(tmp_path: Path) -> None:
    files = {f"{key}.{part}": PNG for key in "xyz" for part in ("png", "seg.png")} | {"u.v2.png": PNG}
    labels = {f"{key}.CLS": str(label % 2).encode() for label, key in enumerate("uxyzw")}
    tar_of(tmp_path / "train.tar", files | labels)
    index = scan(data_config(tmp_path, format="tar", val_fraction=0.5))
    found = [*names(index.train), *names(index.val)]
    assert sorted(found) == [f"train/train/{name}.png" for name in ("u.v2", "x", "y", "z")]
    assert any("left aside: 3 further images of a sample, 1 labels without an image" in note for note in index.notes)


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"x.jpg": PNG}, r"train.tar: the sample 'x' has 2 images: .*; write one of them as KEY.jpg"),
        ({"x.2.cls": b"1"}, r"train.tar: two .cls files have the key 'x', which ends at the first dot"),
    ],
)
def test_a_webdataset_sample_has_one_image_and_one_label(
    tmp_path: Path, further: dict[str, bytes], message: str
) -> None:
    tar_of(tmp_path / "train.tar", {"x.png": PNG, "x.cls": b"0"} | further)
    with pytest.raises(DataError, match=message):
        scan(data_config(tmp_path, format="tar", val_fraction=0.5))


def test_a_folder_without_archives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no .tar file that this needs; name them train\*.tar and val\*.tar"):
        scan(data_config(tmp_path, format="tar"))


def test_a_test_set_is_read_only_to_be_evaluated(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        tar_of(tmp_path / f"{split}.tar", {f"{name}/{split}.png": PNG for name in "ab"})
    cfg = data_config(tmp_path, format="tar")
    assert names(scan(cfg).val) == ["val/a/val.png", "val/b/val.png"]
    assert names(evaluation_index(cfg, "test", ["a", "b"]).val) == ["test/a/test.png", "test/b/test.png"]
    (tmp_path / "test.tar").write_bytes(b"damaged")
    scan(cfg)
    (tmp_path / "train.tar").write_bytes(b"damaged")
    assert names(evaluation_index(cfg, "val", ["b"]).val) == ["val/b/val.png"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_an_archive_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "train.tar").symlink_to("nowhere.tar")
    else:
        os.mkfifo(tmp_path / "train.tar")
    with pytest.raises(DataError, match=r"cannot read the archive .*train.tar: (No such file|it is not a file)"):
        scan(data_config(tmp_path, format="tar", val_fraction=0.5))


def test_a_deflated_label_that_is_damaged(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "train.zip", {"1.png": PNG, "1.cls": b"3" * 100}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    label = next(member for member in zip_members(str(path), Aside()) if member.name == "1.cls")
    path.write_bytes(content[: label.offset] + b"\xff" * label.length + content[label.offset + label.length :])
    with pytest.raises(DataError, match=r"'1.cls' must hold a class as text"):
        scan(data_config(tmp_path, format="zip", val_fraction=0.5))
