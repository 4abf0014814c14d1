"""Images in archives: bytes, damage, changes after the scan."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dist_train.data.decoding.picture import BadImage
from dist_train.data.index import scan
from dist_train.errors import DataError
from tests.support.archives import image_bytes, tar_of, zip_of
from tests.support.data_roots import data_config, names

FILES = {
    f"{split}/{name}/{number}.png": image_bytes(10 * number + 5)
    for split in ("train", "val")
    for name in "ab"
    for number in range(3)
}


def test_pixels_and_content_are_those_of_the_file(tmp_path: Path) -> None:
    tar_of(tmp_path / "all.tar", FILES)
    images = scan(data_config(tmp_path, format="tar")).images
    assert (images.open("train/b/2.png").pixels() == np.full((8, 8, 3), 25)).all()
    assert images.content("val/a/0.png") == FILES["val/a/0.png"]  # type: ignore[attr-defined]
    assert images.content("val/a/0.png", 4) == b"\x89PNG"  # type: ignore[attr-defined]
    assert images.deep("val/a/0.png") is None
    assert images.left_out("val/a/0.png") == []


@pytest.mark.parametrize("change", ["touch", "cut", "remove"])
def test_an_archive_that_changes_after_the_scan_is_named(tmp_path: Path, change: str) -> None:
    path = tar_of(tmp_path / "all.tar", FILES)
    images = scan(data_config(tmp_path, format="tar")).images
    if change == "touch":
        os.utime(path, (1, 1))
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"the archive .*all.tar(: No such file| has changed since)"):
        images.open("val/b/2.png")


def test_damaged_images_are_bad_images_that_a_run_may_leave_out(tmp_path: Path) -> None:
    files = FILES | {"train/a/0.png": b"", "train/a/1.png": b"no image", "train/a/2.png": FILES["train/a/2.png"][:40]}
    tar_of(tmp_path / "all.tar", files)
    images = scan(data_config(tmp_path, format="tar")).images
    for number in range(3):
        with pytest.raises(BadImage, match=rf"train/a/{number}.png in .*all.tar"):
            images.open(f"train/a/{number}.png").pixels()


def test_a_deflated_file_that_is_damaged_is_a_bad_image(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "all.zip", FILES, zipfile.ZIP_DEFLATED)
    index = scan(data_config(tmp_path, format="zip"))
    name = names(index.train)[0]
    assert index.images.open(name).pixels().shape == (8, 8, 3)
    _, member = index.images.places.find(name)  # type: ignore[attr-defined]
    content, status = bytearray(path.read_bytes()), path.stat()
    content[member.offset : member.offset + member.length] = b"\xff" * member.length
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BadImage, match=f"{name} in"):
        index.images.open(name)
    assert index.images.deep(name) is None
    assert index.images.left_out(name) == []


@pytest.mark.parametrize("said", [0, 1, 10**6])
def test_a_deflated_file_of_another_size_than_the_table_says_is_a_bad_image(tmp_path: Path, said: int) -> None:
    path = zip_of(tmp_path / "all.zip", FILES, zipfile.ZIP_DEFLATED)
    content, entry = bytearray(path.read_bytes()), 0
    while (entry := content.find(b"PK\1\2", entry)) >= 0:
        content[entry + 24 : entry + 28] = said.to_bytes(4, "little")
        entry += 4
    path.write_bytes(content)
    images = scan(data_config(tmp_path, format="zip")).images
    with pytest.raises(BadImage, match=r"image train/a/0.png in .*all.zip: it has other bytes than the archive says"):
        images.open("train/a/0.png")
