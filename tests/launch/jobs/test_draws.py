"""The points of a sweep that are drawn from ranges."""

import math

import pytest

from dist_train.errors import ConfigError
from launch.jobs.draws import halton, is_range, points, read_range
from launch.jobs.option_values import Draw


@pytest.mark.parametrize("method", ["halton", "random"])
def test_points_lie_in_their_ranges_and_more_of_them_begin_alike(method: str) -> None:
    ranges = {"a": "log(1e-5, 1e-2)", "b": "uniform(-0.5, 0.5)", "c": "int(2, 4)", "d": "choice(x, [1, 2])"}
    found = points(ranges, Draw(method, 64))
    assert found[:16] == points(ranges, Draw(method, 16))
    assert found[:16] != points(ranges, Draw(method, 16, seed=1))
    assert all(1e-5 <= float(point["a"]) <= 1e-2 and -0.5 <= float(point["b"]) <= 0.5 for point in found)
    assert {point["c"] for point in found} == {"2", "3", "4"}
    assert {point["d"] for point in found} == {"x", "[1, 2]"}


def test_halton_spreads_every_coordinate_evenly() -> None:
    """The first b^2 points of an axis with base b: one in each interval of 1/b^2."""
    for axis, base in enumerate((2, 3, 5)):
        for seed in (0, 1):
            cells = [math.floor(halton(seed, axis, index) * base**2 + 1e-6) for index in range(base**2)]
            assert sorted(cells) == list(range(base**2))


def test_halton_spreads_over_decades() -> None:
    lr = sorted(float(point["lr"]) for point in points({"lr": "log(1e-4, 1)"}, Draw("halton", 16)))
    for value, number in zip(lr, range(16), strict=True):
        assert number / 16 <= (math.log10(value) + 4) / 4 + 1e-3 <= (number + 1) / 16 + 2e-3


def test_narrow_ranges_have_more_digits() -> None:
    drawn = [float(point["x"]) for point in points({"x": "uniform(0.99990, 0.99999)"}, Draw("halton", 32))]
    assert len(set(drawn)) == 32
    assert all(0.99990 <= value <= 0.99999 for value in drawn)


def test_no_point_comes_twice() -> None:
    found = points({"a": "int(1, 3)", "b": "choice(x, y)"}, Draw("random", 6))
    assert len({tuple(point.items()) for point in found}) == 6
    with pytest.raises(ConfigError, match="only 6 different points; use at most --draw random:6"):
        points({"a": "int(1, 3)", "b": "choice(x, y)"}, Draw("random", 7))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log(0, 1)", "above 0"),
        ("log(-1, 1)", "above 0"),
        ("log(1e-2, 1e-5)", "below the second"),
        ("uniform(1, 1)", "below the second"),
        ("uniform(nan, 1)", "below the second"),
        ("uniform(0, inf)", "finite"),
        ("uniform(1)", "two numbers"),
        ("uniform(a, b)", "two numbers"),
        ("uniform()", "two numbers"),
        ("int(1.5, 3)", "whole"),
        ("choice(a)", "two different values"),
        ("choice(a, a)", "two different values"),
        ("loguniform(1, 2)", r"a range is one of log\(...\), uniform"),
        ("3", "a range is one of"),
    ],
)
def test_a_wrong_range_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_range("optim.lr", text)
    assert f"optim.lr={text}" in str(error.value)


def test_what_is_a_range() -> None:
    assert is_range("log(1e-5,1e-2)")
    assert is_range("choice([0.9, 0.95], none)")
    assert not is_range("0.1,0.2")
    assert not is_range("rand-m9-mstd0.5-inc1,augmix")
    for mixed in ("0.1,log(1,2)", "log(1,2),0.1", "log(1,2),log(3,4)"):
        with pytest.raises(ConfigError, match="one range for a key"):
            is_range(mixed)


def test_the_drawn_numbers_never_change() -> None:
    """The same command must find the runs that an older version has submitted."""
    ranges = {"lr": "log(1e-5, 1e-2)", "b": "int(1, 100)"}
    halton_points = [{"lr": "9.056e-5", "b": "28"}, {"lr": "0.002864", "b": "95"}]
    assert points(ranges, Draw("halton", 2)) == halton_points
    assert points(ranges, Draw("random", 2)) == [{"lr": "0.0003193", "b": "30"}, {"lr": "1.274e-5", "b": "75"}]
