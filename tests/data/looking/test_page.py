"""The picture."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from dist_train.config import parse_config
from dist_train.data.augment.frame import Frame
from dist_train.data.index import scan
from dist_train.data.looking.page import Look, png
from dist_train.data.looking.samples import Batch
from dist_train.data.looking.shapes import shapes_of


def test_names_of_any_script_and_colours_come_into_the_picture(tree: dict[str, Any]) -> None:
    index = replace(scan(parse_config(tree).data), classes=["$x_1$ a", "\u7f8e\u4e3d", "c"])
    red = np.zeros((32, 32, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    batch = Batch([red] * 9, ["0.7 $a$ + 0.3 \u7f8e"] * 9, [0.0] * 5, [1.0] * 5)
    look = Look("a $run$", index, batch, Batch([], [], [], []), shapes_of(index, Frame("center", (32, 32), (32, 32))))
    drawn = np.asarray(Image.open(io.BytesIO(png(look))).convert("RGB"))
    assert drawn.shape[1] == 1360
    assert (drawn == [255, 0, 0]).all(axis=2).sum() > 9 * 100 * 100
