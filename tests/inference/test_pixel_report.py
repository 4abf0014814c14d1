"""What ``--check`` says about pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dist_train.config import parse_config
from dist_train.inference.config_check import check
from tests.support.deep_images import make_deep_folder
from tests.support.runs import changed


def folder_of(root: Path, *sizes: tuple[int, int], level: int | None = None) -> Path:
    """Images of these widths and heights, one after the other, of one colour or of noise."""
    for first, split in enumerate(("train", "val")):
        for number in range(12):
            width, height = sizes[number % len(sizes)]
            pixels = np.random.default_rng(100 * first + number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            if level is not None:
                pixels[:] = level
            path = root / split / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def said(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    check(parse_config(tree), 1)
    return " ".join(capsys.readouterr().out.split())  # lines are wrapped to the terminal


WIDE = "(160 x 90 px)"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, f"crop: training and evaluation cut 44 % of the median image {WIDE} away; `augment.crop` and `eval.crop`"),
        ({"augment__crop": "random_resized"}, f"crop: evaluation cuts 47 % of the median image {WIDE} away"),
        (
            {"augment__crop": "squash"},
            f"crop: evaluation squashes the median image {WIDE} to a square, and cuts nothing",
        ),
        (
            {"eval__crop": "pad"},
            f"crop: evaluation pads the median image {WIDE}: 44 % of the input is margin; training cuts 44 %",
        ),
    ],
)
def test_how_much_of_the_median_image_is_cut_away(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, Any], words: str
) -> None:
    root = folder_of(tmp_path / "wide", (160, 90), (160, 90), (40, 90), (90, 90), (160, 90))
    assert words in said(changed(tree, data__root=str(root), **keys), capsys)


def test_squares_are_not_cut(tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of(tmp_path / "squares", (50, 50))
    text = said(changed(tree, data__root=str(root)), capsys)
    assert "crop: training and evaluation cut 0 % of the median image (50 x 50 px) away" in text
    assert "almost of one colour" not in text
    assert "images: no more than 8 bits per channel in those looked at" in text


def test_images_that_show_nothing(tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of(tmp_path / "black", (50, 50), level=3)
    text = said(changed(tree, data__root=str(root), data__max_overlap=None), capsys)
    assert "decoded training images has almost a single colour (mean 3 of 255)" in text


def test_what_files_hold_and_pixels_do_not_show(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "odd", (50, 50))
    page = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8))
    page.save(root / "train" / "a" / "stack.tif", save_all=True, append_images=[page, page])
    for number in range(3):
        page.convert("LA").save(root / "train" / "b" / f"alpha{number}.png")
    text = said(changed(tree, data__root=str(root)), capsys)
    assert "note: 1 of 16 sampled training images have several pages or frames: only the first is read" in text
    assert "note: 3 of 16 sampled training images have transparency: they are put on a white background" in text


def test_the_range_of_values(tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_deep_folder(tmp_path / "deep")
    text = said(changed(tree, data__root=str(root), train__global_batch=6), capsys)
    assert "images of more than 8 bits: [0, 4095] (12 bits) becomes 0 to 255 (`data.value_range`)" in text
    assert "of almost one colour" not in text
    wrong = changed(tree, data__root=str(root), train__global_batch=6, data__value_range=[0, 10_000_000])
    assert "training images has almost a single colour (mean 0 of 255)" in said(wrong, capsys)
