"""What the doctor keeps of an image."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.doctor.signatures import signatures, small
from dist_train.data.index import scan


def test_broken_blank_and_equal_files(tree: dict[str, Any], image_folder: Path, tmp_path: Path) -> None:
    sound = next((image_folder / "train").rglob("*.png")).read_bytes()
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            (tmp_path / "set" / split / name / "0.png").write_bytes(sound)
    Image.new("RGB", (20, 30), (3, 200, 5)).save(tmp_path / "set" / "train" / "a" / "1.png")
    (tmp_path / "set" / "train" / "a" / "2.png").write_bytes(sound[: len(sound) // 2])
    found = list(signatures(scan(parse_config({**tree, "data": {"root": str(tmp_path / "set")}}).data)))
    assert [(each.split, each.number) for each in found] == [("val", 0), ("val", 1), *(("train", n) for n in range(4))]
    assert [each.blank for each in found] == [False, False, False, True, False, False]
    assert [bool(each.broken) for each in found] == [False, False, False, False, True, False]
    assert len({each.digest for each in found if not each.broken}) == 2


def test_the_small_picture_has_the_means_of_any_kind_of_pixels() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8).reshape(1, 64, 1).repeat(48, axis=0)
    grey = small(ramp)
    assert (grey.shape, grey.dtype) == ((32, 32), np.uint8)
    deep = (ramp.astype(np.uint16) * 257).repeat(5, axis=2)
    assert np.abs(small(deep).astype(int) - grey).max() <= 1
    assert np.array_equal(small(ramp.repeat(3, axis=2)), grey)
