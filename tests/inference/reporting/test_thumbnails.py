"""Small pictures of validation images."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dist_train.data.formats.images import FileImages
from dist_train.errors import DataError
from dist_train.inference.reporting.thumbnails import as_rgb, thumbnail, validation_images
from dist_train.run.folder import RunDir
from dist_train.run.saved_config import run_config


def test_a_large_image_becomes_a_small_one(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), (200, 0, 0)).save(tmp_path / "a.png")
    found = thumbnail(FileImages(str(tmp_path)), "a.png")
    assert found is not None
    kind, _, content = found.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.size == (160, 80)
        assert picture.getpixel((80, 40))[0] > 190  # type: ignore[index]


def test_what_cannot_be_read_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    images = FileImages(str(tmp_path))
    assert (thumbnail(images, "a.png"), thumbnail(images, "missing.png")) == (None, None)


@pytest.mark.parametrize(("dtype", "levels"), [(np.uint8, 1), (np.uint16, 256)])
@pytest.mark.parametrize(("channels", "expected"), [(1, [7, 7, 7]), (2, [7, 7, 7]), (3, [7, 8, 9]), (5, [7, 8, 9])])
def test_any_number_of_channels_and_bits(dtype: type, levels: int, channels: int, expected: list[int]) -> None:
    pixels = np.broadcast_to(np.arange(7, 7 + channels) * levels, (4, 4, channels)).astype(dtype)
    assert as_rgb(pixels)[2, 2].tolist() == expected


def test_images_that_have_moved_are_found_by_a_new_scan(path: Path, tmp_path: Path, image_folder: Path) -> None:
    cfg, run = run_config(path), RunDir(path)
    name = sorted(image_folder.glob("val/*/*"))[0].relative_to(image_folder)
    (tmp_path / "moved").symlink_to(image_folder)
    for root in (image_folder, tmp_path / "moved"):
        images = validation_images(run, run_config(path, [f"data.root={root}"]), ["class_a", "class_b", "class_c"])
        assert thumbnail(images, str(name)) is not None
    with pytest.raises(DataError):
        validation_images(run, run_config(path, [f"data.root={tmp_path / 'gone'}"]), cfg.model.name)
