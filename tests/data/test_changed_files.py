"""Messages about a data set that has changed since its run began."""

import gzip
import shutil
from pathlib import Path

import pytest

from dist_train.data.changed_files import changes_since, listed_counts, save_listing
from dist_train.data.index import DataIndex, scan
from tests.support.data_roots import data_config, picture


@pytest.fixture
def images(image_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(image_folder, tmp_path / "images"))


def _scan(images: Path) -> DataIndex:
    return scan(data_config(images))


def test_every_kind_of_change_is_told_by_name(images: Path, tmp_path: Path) -> None:
    save_listing(tmp_path / "listing", _scan(images))
    assert "content of its images is not" in changes_since(tmp_path / "listing", _scan(images))
    removed = sorted((images / "train" / "class_a").iterdir())[:4]
    for path in removed:
        path.unlink()
    picture(images / "val" / "class_b" / "new.png")
    (images / "train" / "class_c" / "002.jpg").write_bytes(b"other")
    told = changes_since(tmp_path / "listing", _scan(images))
    assert told == (
        "1 file added (val/class_b/new.png); "
        f"4 files removed ({', '.join(str(path.relative_to(images)) for path in removed[:3])}, ...); "
        "1 file of another size (train/class_c/002.jpg)"
    )


def test_labels_and_classes(images: Path, tmp_path: Path) -> None:
    keys = {"format": "csv", "csv": {"train": "t.csv", "val": "v.csv"}}
    cat, dog, other = (f"train/class_a/{number}" for number in ("000.png", "003.jpg", "006.jpg"))
    (images / "v.csv").write_text(f"path,label\n{dog},dog\n")
    (images / "t.csv").write_text(f"path,label\n{cat},cat\n{dog},dog\n{other},cat\n")
    save_listing(tmp_path / "listing", scan(data_config(images, **keys)))
    (images / "t.csv").write_text(f"path,label\n{cat},cat\n{dog},dog\n{other},eel\n")
    told = changes_since(tmp_path / "listing", scan(data_config(images, **keys)))
    assert f"1 file relabelled ({other}: cat -> eel)" in told
    assert "the classes were cat, dog (2) and are cat, dog, eel (3)" in told


def test_several_labels_are_named(images: Path, tmp_path: Path) -> None:
    keys = {"format": "csv", "task": "multilabel", "csv": {"train": "t.csv", "val": "t.csv"}}
    one, two = "train/class_a/000.png", "train/class_a/003.jpg"
    (images / "t.csv").write_text(f"path,label\n{one},cat|dog\n{two},\n")
    index = scan(data_config(images, **keys))
    save_listing(tmp_path / "listing", index)
    listed = gzip.decompress((tmp_path / "listing").read_bytes()).decode().split("\n")
    assert listed[1:3] == [  # as version 0.1.0 wrote them
        f"train\0{one}\0{index.train.sizes[0]}\0[1.0, 1.0]",
        f"train\0{two}\0{index.train.sizes[1]}\0[0.0, 0.0]",
    ]
    (images / "t.csv").write_text(f"path,label\n{one},cat\n{two},dog\n")
    told = changes_since(tmp_path / "listing", scan(data_config(images, **keys)))
    assert f"4 files relabelled ({one}: cat, dog -> cat, {two}: no label -> dog, " in told


def test_without_its_listing_the_change_alone_is_told(images: Path, tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(b"\x1f\x8b")
    for name in ("absent", "half"):
        assert changes_since(tmp_path / name, _scan(images)) == "its files, sizes or labels have changed"


def test_images_of_each_class_are_counted(tmp_path: Path) -> None:
    lines = [
        '["cat", "dog"]',
        "train\0a.jpg\x0012\0cat",
        "train\0b.jpg\x0012\0[1.0, 1.0]",
        "val\0c.jpg\x0012\0[0.0, 0.0]",
    ]
    (tmp_path / "index.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    counts = listed_counts(tmp_path / "index.gz")
    assert {split: (found.images, dict(found.of_class)) for split, found in counts.items()} == {
        "train": (2, {"cat": 2, "dog": 1}),
        "val": (1, {}),
    }
    (tmp_path / "index.gz").write_bytes(b"no gzip")
    assert listed_counts(tmp_path / "index.gz") == listed_counts(tmp_path / "missing.gz") == {}
