"""Which values become 0 and 255."""

from typing import Any

import numpy as np
import pytest

from dist_train.data.decoding.value_range import describe, outside, range_of, to_8_bits


def ramp(low: float, high: float, dtype: Any) -> np.ndarray[Any, Any]:
    return np.linspace(low, high, 60).reshape(5, 12).astype(dtype)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (0, 255, np.uint16, (0, 255)),
        (7, 256, np.uint16, (0, 1023)),
        (0, 1023, np.uint16, (0, 1023)),
        (300, 3071, np.uint16, (0, 4095)),
        (0, 4096, np.int32, (0, 16383)),
        (0, 65535, np.uint16, (0, 65535)),
        (0, 70_000, np.int32, (0, 70_000)),
        (-1024, 3071, np.int16, (-1024, 3071)),
        (0.1, 0.9, np.float32, (0, 1)),
        (-0.5, 1.0, np.float32, (-1, 1)),
        (0, 254.5, np.float64, (0, 255)),
        (-3.5, 1000, np.float32, (-3.5, 1000)),
        (300, 300, np.float32, (300, 301)),
    ],
)
def test_the_range_of_a_data_set(low: float, high: float, dtype: Any, expected: tuple[float, float]) -> None:
    dark = ramp(low, low, dtype)
    assert range_of([ramp(low, high, dtype)]) == expected
    assert range_of([dark, ramp(low, high, dtype), dark]) == expected, "one range for all images"


def test_one_image_of_floats_makes_all_of_them_floats() -> None:
    assert range_of([ramp(0, 200, np.uint16), ramp(0, 1, np.float32)]) == (0, 255)


def test_a_range_needs_images() -> None:
    with pytest.raises(ValueError, match="there are no values"):
        range_of([])


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, ">u2"])
def test_whole_numbers_keep_their_upper_8_bits(bits: int, dtype: Any) -> None:
    values = np.arange(2**bits).astype(dtype)
    assert np.array_equal(to_8_bits(values, (0, 2**bits - 1)), np.arange(2**bits) // 2 ** (bits - 8))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (-1000.0, 400.0), (0.0, 255.0), (0.0, 70_000.0)])
def test_other_ranges_are_linear(bounds: tuple[float, float]) -> None:
    found = to_8_bits(np.linspace(*bounds, 256), bounds)
    assert np.array_equal(found, np.arange(256))


def test_values_outside_become_black_or_white() -> None:
    assert to_8_bits(np.array([0, 4095, 4096, 65535], dtype=np.uint16), (0, 4095)).tolist() == [0, 255, 255, 255]
    assert to_8_bits(np.array([-2000, -1000, 400, 3000], dtype=np.int16), (-1000, 400)).tolist() == [0, 0, 255, 255]
    assert to_8_bits(np.array([-5, 5], dtype=np.int16), (0, 255)).tolist() == [0, 5]
    assert outside(np.array([-1, 0, 5, 6]), (0, 5)) == 0.5


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(odd: float) -> None:
    values = np.array([[0.0, odd], [odd, 1.0]])
    with pytest.raises(ValueError, match="2 of its 4 values are NaN or infinite"):
        to_8_bits(values, (0, 1))


def test_a_range_in_words() -> None:
    assert describe((0, 4095)) == "[0, 4095] (12 bits)"
    assert describe((0, 1)) == "[0, 1]"
    assert describe((-1000, 400)) == "[-1000, 400]"
    assert describe((0, 70_000)) == "[0, 70000]"
