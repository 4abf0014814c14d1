"""Sizes, ratios, and what a crop cuts away."""

from pathlib import Path
from typing import Any

from PIL import Image

from dist_train.config import parse_config
from dist_train.data.augment.frame import Frame
from dist_train.data.index import scan
from dist_train.data.looking.shapes import describe, shapes_of


def test_sizes_and_the_cut_are_those_of_the_images(tree: dict[str, Any], tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name, size in (("a/0", (40, 20)), ("a/1", (10, 10)), ("b/2", (30, 30))):
            path = tmp_path / "set" / split / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(path)
    (tmp_path / "set" / "train" / "b" / "3.png").write_bytes(b"no image")
    index = scan(parse_config({**tree, "data": {"root": str(tmp_path / "set")}}).data)
    shapes = shapes_of(index, Frame("center", (32, 32), (32, 32)))
    assert shapes.sizes_N2.tolist() == [[20, 40], [10, 10], [30, 30]]
    assert shapes.cut_N.tolist() == [0.5, 0, 0]
    assert list(describe(shapes)) == [
        "note: 1 of 4 training images cannot be opened",
        "sizes of 3 training images, width x height: 10 x 10 to 30 x 30, median 40 x 20",
        "width by height: 1.00 to 2.00, median 1.00",
        "an evaluation cuts 0% to 50% of an image away, median 0%",
    ]
