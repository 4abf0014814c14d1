"""Sums over pixels are exact, so that the result depends on no order."""

from typing import Any

import numpy as np
import pytest

from dist_train.data.report.channel_sums import ChannelSums
from dist_train.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_mean_and_std_are_numpys_of_all_pixels(dtype: Any, channels: int) -> None:
    images = [RNG.integers(0, np.iinfo(dtype).max + 1, (*shape, channels)).astype(dtype) for shape in ((3, 5), (20, 1))]
    top = int(np.iinfo(dtype).max)
    sums, backwards = ChannelSums(channels), ChannelSums(channels)
    for one, other in zip(images, reversed(images), strict=True):
        sums.add(one)
        backwards.add(other)
    pixels = np.concatenate([image.reshape(-1, channels) for image in images]) / top
    mean, std = sums.mean_and_std(top)
    assert np.allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    assert np.allclose(std, pixels.std(axis=0), rtol=1e-12)
    assert backwards.mean_and_std(top) == (mean, std)


def test_a_small_spread_survives_many_large_values() -> None:
    sums = ChannelSums(1)
    image = np.full((1000, 1000, 1), 65535, dtype=np.uint16)
    for _ in range(20):
        sums.add(image)
    image[0, 0] = 65534
    sums.add(image)
    _, (std,) = sums.mean_and_std(65535)
    assert std * 65535 == pytest.approx(np.sqrt(1 / 21e6), rel=1e-6)


def test_a_channel_of_one_value_is_named() -> None:
    sums = ChannelSums(2)
    with pytest.raises(DataError, match="none of the training images"):
        sums.mean_and_std(255)
    sums.add(np.stack([np.arange(9).reshape(3, 3), np.full((3, 3), 51)], axis=2).astype(np.uint8))
    with pytest.raises(DataError, match=r"channel 1 is 0.2 in every pixel of the training images"):
        sums.mean_and_std(255)
