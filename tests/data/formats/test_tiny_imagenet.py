"""Tiny ImageNet as it is downloaded, and copies with gaps."""

from pathlib import Path

import pytest

from dist_train.data.index import evaluation_index, scan
from dist_train.errors import ConfigError, DataError
from tests.support.data_roots import data_config, names, picture


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
    with pytest.raises(DataError, match=r"names val_9.JPEG, which val/images does not have"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.write_text(text + "\n")
    assert len(scan(data_config(tiny, format="tiny_imagenet")).val) == 2
    annotations.write_text(text + "val_1.JPEG n01")
    with pytest.raises(DataError, match=r"names class , which wnids.txt does not have"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.write_text(text.replace("n01", "n77"))
    with pytest.raises(DataError, match=r"names class n77, which wnids.txt does not have"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.unlink()
    with pytest.raises(DataError, match=r"lacks val/val_annotations.txt; is it the unpacked tiny-imagenet-200?"):
        scan(data_config(tiny, format="tiny_imagenet"))


def test_an_image_that_is_named_twice_and_one_that_is_not_named(tiny: Path) -> None:
    annotations = tiny / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn01\r\n\r\nval_0.JPEG\tn02\r\n")
    with pytest.raises(DataError, match=r"val_annotations.txt line 3: val_0.JPEG was named before; remove"):
        scan(data_config(tiny, format="tiny_imagenet"))
    annotations.write_text("val_0.JPEG\tn01\n")
    (index,) = [scan(data_config(tiny, format="tiny_imagenet"))]
    assert "1 images of val/images that val_annotations.txt does not name are left aside" in index.notes


def test_folders_and_ids_that_do_not_agree(tiny: Path) -> None:
    picture(tiny / "train" / "n77" / "images" / "1.JPEG")
    (tiny / "train" / "n01" / "images" / "1.heic").touch()
    notes = "\n".join(scan(data_config(tiny, format="tiny_imagenet")).notes)
    assert "train that wnids.txt does not name are left aside: n77" in notes
    assert "1 file in 1 class of" in notes
    (tiny / "wnids.txt").write_text("n02\nn01\nn02\n")
    with pytest.raises(DataError, match=r"wnids.txt names n02 twice"):
        scan(data_config(tiny, format="tiny_imagenet"))


def test_the_test_images_have_no_labels(tiny: Path) -> None:
    cfg = data_config(tiny, format="tiny_imagenet")
    assert names(evaluation_index(cfg, "val", ["n02", "n01"]).val) == names(scan(cfg).val)
    assert evaluation_index(cfg, "val", ["n02", "n01"]).val.labels.tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"no labels for its test images"):
        evaluation_index(cfg, "test", ["n01", "n02"])
