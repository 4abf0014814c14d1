"""A part that is decoded at a fraction of its size is that part, smaller, and never smaller than asked for."""

from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torch.nn.functional import interpolate

from dist_train.data.decoding import jpeg
from dist_train.data.decoding.decode import PlainJpeg
from dist_train.data.decoding.rules import DecodeRules
from dist_train.data.decoding.smaller import SHRINKS, how_much_smaller, smaller_box
from dist_train.data.decoding.turbojpeg import part_decoder
from tests.data.decoding.test_jpeg import photo
from tests.data.decoding.test_turbojpeg import KINDS, encoded, random_box


def test_how_much_smaller() -> None:
    assert how_much_smaller((3, 5, 447, 2000), (224, 224)) == 1
    assert how_much_smaller((3, 5, 448, 2000), (224, 224)) == 2
    assert how_much_smaller((0, 0, 896, 900), (224, 224)) == 4
    assert how_much_smaller((0, 0, 9000, 9000), (224, 224)) == 8
    assert how_much_smaller((0, 0, 448, 448), (224, 225)) == 1


def test_a_box_stays_inside_the_smaller_image() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(side) for side in rng.integers(1, 400, 2))
        box = random_box(rng, height, width)
        for shrink in SHRINKS:
            size = -(-height // shrink), -(-width // shrink)
            top, left, rows, columns = smaller_box(box, shrink, size)
            assert 0 <= top <= top + rows <= size[0]
            assert 0 <= left <= left + columns <= size[1]
            assert min(rows, columns) >= 1
            assert abs(rows - box[2] / shrink) <= 1


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shrink", SHRINKS)
def test_a_part_is_that_of_the_whole_smaller_image(kind: dict[str, Any], shrink: int) -> None:
    decode_part = part_decoder()
    if decode_part is None:
        pytest.skip("needs TurboJPEG 3: `pip install turbojpeg`, or the system's")
    rng = np.random.default_rng(0)
    for size in ((67, 131), (96, 160), (200, 77)):
        content = encoded(photo(*size), quality=85, **kind)
        whole = jpeg.decode(content, (0, 0, *size), shrink)
        assert whole is not None
        for box in [random_box(rng, *size) for _ in range(8)]:
            top, left, height, width = smaller_box(box, shrink, whole.shape[:2])
            found = decode_part(content, box, shrink)
            assert found is not None
            assert np.abs(found.astype(int) - whole[top : top + height, left : left + width]).max() <= 1


def _resized(pixels: Any, side: int) -> Any:
    tensor = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float()
    return interpolate(tensor, [side, side], mode="bilinear", antialias=True)


@pytest.mark.parametrize("without_library", [False, True])
def test_a_crop_is_nearly_that_of_the_whole_file(monkeypatch: pytest.MonkeyPatch, without_library: bool) -> None:
    if without_library:
        monkeypatch.setattr(jpeg, "part_decoder", lambda: None)
    smooth = photo(30, 40).resize((800, 600), Image.Resampling.BICUBIC)
    content, side = encoded(smooth, quality=90, subsampling=2), 64
    whole, fast = (PlainJpeg("x", content, (600, 800), DecodeRules(fast=fast)) for fast in (False, True))
    for box in ((0, 0, 600, 800), (37, 101, 301, 422), (3, 5, 130, 131)):
        small = fast.pixels(box, (side, side))
        shrink = how_much_smaller(box, (side, side))
        assert shrink > 1
        assert min(small.shape[:2]) >= side
        assert small.shape[0] == round(box[2] / shrink)
        difference = _resized(small, side) - _resized(whole.pixels(box, (side, side)), side)
        assert difference.abs().mean() < 3


def test_without_the_rule_or_a_size_nothing_is_smaller() -> None:
    content = encoded(photo(300, 400), quality=90)
    assert PlainJpeg("x", content, (300, 400), DecodeRules()).pixels((0, 0, 300, 400), (8, 8)).shape == (300, 400, 3)
    assert PlainJpeg("x", content, (300, 400), DecodeRules(fast=True)).pixels().shape == (300, 400, 3)
    assert PlainJpeg("x", content, (300, 400), DecodeRules(fast=True)).pixels((0, 0, 90, 90)).shape == (90, 90, 3)


def test_a_damaged_file_is_noticed_as_before() -> None:
    content = encoded(photo(300, 400), quality=90)
    assert simplejpeg.decode_jpeg(content, min_height=1, min_width=1, min_factor=1).shape[0] < 300
    assert jpeg.decode(content[: len(content) // 2], (0, 0, 300, 400), 2) is None
