"""Which arrays are images, and with which words the others are refused."""

from typing import Any

import numpy as np
import pytest
import torch

from dist_train.data.decoding.arrays import as_pixels
from dist_train.data.decoding.deep import DeepImage
from dist_train.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 1), (3, 5, 3)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_bytes_are_pixels(shape: tuple[int, ...], kind: Any) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    found = as_pixels("a", kind(pixels))
    assert np.array_equal(found, pixels[:, :, 0] if shape[2:] == (1,) else pixels)  # type: ignore[arg-type]


def test_masks_are_black_and_white() -> None:
    assert as_pixels("a", np.array([[True, False]])).tolist() == [[255, 0]]  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int64, np.uint32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_other_numbers_are_values(dtype: Any, shape: tuple[int, ...]) -> None:
    values = RNG.integers(0, 4096, shape).astype(dtype)
    found = as_pixels("a", values)
    assert isinstance(found, DeepImage)
    assert np.array_equal(found.values, values[:, :, 0] if shape[2:] == (1,) else values)
    pixels = np.asarray(found.in_8_bits((0, 4095)))
    assert np.abs(pixels.astype(float) - found.values.astype(float) * 255 / 4095).max() <= 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            np.zeros((6, 5, 4), np.uint8),
            r"image val/3 is a ndarray uint8 \[6, 5, 4\]; .* for transparency .* mode RGBA",
        ),
        (np.zeros((6, 5, 2), np.uint8), "for transparency return a PIL image of mode LA"),
        (np.zeros((6, 5, 4), np.uint16), "uint16 .*mode RGBA, else three channels"),
        (np.zeros((6, 5, 8), np.uint8), r"\[6, 5, 8\]; it must be a PIL image, or an array \[H, W\]"),
        (
            torch.zeros((3, 6, 5)),
            r"a Tensor torch.float32 \[3, 6, 5\]; .*; its channels come first: permute it to \[H, W, C\]",
        ),
        (torch.zeros((1, 6, 5)), "its channels come first"),
        (np.zeros((0, 5, 3), np.uint8), "; it has no pixels"),
        (np.zeros((5, 0), np.float32), "; it has no pixels"),
        (np.zeros((2, 6, 5, 3), np.uint8), "it must be a PIL image"),
        (np.zeros((6, 5), np.complex64), "complex64"),
        ([[1, 2], [3]], r"is a list, and not an array \(.*\); it must be a PIL image"),
        (np.array([["a"]]), "it must be a PIL image"),
        (None, r"a NoneType  \[\]; it must be a PIL image"),
        (7, r"a int  \[\]; it must be"),
        ("a.jpg", r"a str  \[\]; it must be"),
    ],
)
def test_others_are_refused_with_the_way_out(image: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_pixels("val/3", image)
