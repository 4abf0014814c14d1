"""Draw the points of a sweep from ranges: a Halton sequence, or random numbers.

Point number i is a function of the seed, i and the number of the key. So the same command names the same runs, and
``halton:32`` has the points of ``halton:16`` first.
"""

import math
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count

from dist_train.errors import ConfigError
from launch.jobs.option_values import Draw

Point = dict[str, str]
"""Value of each key, as the text of an override."""

DIGITS = 4
"""Significant digits of a drawn number, more where the range is narrow: the number is in the name of the run."""
BITS = 32
"""How finely a Halton sequence divides [0, 1)."""
TRIES = 100
"""How many points to draw for each that is wanted, until they are different: ranges of few values repeat themselves."""


Range = Callable[[float], str]
"""Return the value at a place in [0, 1), as the text of an override."""


def is_range(text: str) -> bool:
    """Return whether the values of a key are a range.

    Raises:
        ConfigError: a range stands among other values.
    """
    word = rf"(?:{'|'.join(RANGES)})\s*\("
    if re.match(word, text) and text.endswith(")") and len(re.findall(word, text)) == 1:
        return True
    if re.search(rf"(?:^|,)\s*{word}", text):
        raise ConfigError(f"--sweep: {text!r} must be one range for a key, or a list of values")
    return False


def read_range(key: str, text: str) -> Range:
    """Read ``log(1e-5, 1e-2)``, ``uniform(0, 0.3)``, ``int(2, 8)`` or ``choice(a, b)``.

    Raises:
        ConfigError: it is not one of them, or its bounds are wrong.
    """
    match = re.fullmatch(rf"({'|'.join(RANGES)})\s*\((.*)\)", text.strip(), re.DOTALL)
    if not match:
        raise ConfigError(f"--sweep {key}={text}: a range is one of {', '.join(f'{name}(...)' for name in RANGES)}")
    try:
        return RANGES[match[1]](split(match[2]))
    except ValueError as error:
        raise ConfigError(f"--sweep {key}={text}: {error}") from None


def split(values: str) -> list[str]:
    """Split at commas, except inside brackets."""
    found = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|[^,])+", values)
    return [part.strip() for part in found if part.strip()]  # `v1, v2` is `v1,v2`


def points(ranges: dict[str, str], draw: Draw) -> list[Point]:
    """Return ``draw.runs`` different points.

    Raises:
        ConfigError: a range is wrong, or the ranges have fewer different points.

    >>> points({"optim.lr": "log(1e-5, 1e-2)"}, Draw("halton", 2))
    [{'optim.lr': '9.056e-5'}, {'optim.lr': '0.002864'}]
    """
    read = {key: read_range(key, text) for key, text in ranges.items()}
    found: dict[tuple[str, ...], None] = {}
    for index in range(TRIES * draw.runs):
        found[_point(read, draw, index)] = None
        if len(found) == draw.runs:
            return [dict(zip(read, values, strict=True)) for values in found]
    raise ConfigError(
        f"--draw {draw}: of these ranges come only {len(found)} different points; use at most --draw "
        f"{draw.method}:{len(found)}"
    )


def _point(read: dict[str, Range], draw: Draw, index: int) -> tuple[str, ...]:
    place = METHODS[draw.method]
    return tuple(found(place(draw.seed, axis, index)) for axis, found in enumerate(read.values()))


def halton(seed: int, axis: int, index: int) -> float:
    """Return a coordinate of a randomised Halton sequence, in [0, 1): every digit is permuted (Owen, arXiv:1706.02808)."""
    base, value = _prime(axis), 0.0
    for place in range(1, math.ceil(BITS / math.log2(base)) + 1):
        index, digit = divmod(index, base)
        value += _permutation(seed, base, place)[digit] / base**place
    return value


def independent(seed: int, axis: int, index: int) -> float:
    """Return a random coordinate in [0, 1)."""
    return _generator(seed, axis, index).random()


METHODS: dict[str, Callable[[int, int, int], float]] = {"halton": halton, "random": independent}


@cache
def _permutation(seed: int, base: int, place: int) -> list[int]:
    generator = _generator(seed, base, place)
    return sorted(range(base), key=lambda _: generator.random())


def _generator(*key: int) -> random.Random:
    """Return random numbers of a key. Use ``random()`` of it only: that gives the same numbers in every Python."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 - no secret


@cache
def _prime(number: int) -> int:
    return next(found for position, found in enumerate(_primes()) if position == number)


def _primes() -> Iterator[int]:
    return (n for n in count(2) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1)))


def _numbers(bounds: list[str]) -> tuple[float, float]:
    try:
        low, high = map(float, bounds)
    except ValueError:
        raise ValueError("it needs two numbers, the least and the greatest value") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError("the first number must be below the second, and both finite")
    return low, high


def _uniform(bounds: list[str]) -> Range:
    low, high = _numbers(bounds)
    return lambda place: _text(low + place * (high - low), low, high)


def _log(bounds: list[str]) -> Range:
    low, high = _numbers(bounds)
    if low <= 0:
        raise ValueError("both numbers must be above 0")
    return lambda place: _text(low * (high / low) ** place, low, high)


def _int(bounds: list[str]) -> Range:
    low, high = _numbers(bounds)
    if not (low.is_integer() and high.is_integer()):
        raise ValueError("both numbers must be whole; both can be drawn")
    values = int(high) - int(low) + 1
    return lambda place: str(int(low) + int(place * values))


def _choice(values: list[str]) -> Range:
    if len(values) < 2 or len(set(values)) < len(values):
        raise ValueError("it needs at least two different values")
    return lambda place: values[int(place * len(values))]


RANGES: dict[str, Callable[[list[str]], Range]] = {"log": _log, "uniform": _uniform, "int": _int, "choice": _choice}


def _text(value: float, low: float, high: float) -> str:
    """Return a number in ``DIGITS`` digits that lies in the range.

    >>> _text(0.000012345, 1e-5, 1e-2)
    '1.234e-5'
    """
    share = (high - low) / max(abs(low), abs(high))
    text = f"{value:.{DIGITS + max(0, round(-math.log10(share)))}g}"
    if not low <= float(text) <= high:
        text = repr(value)
    return re.sub(r"e([+-])0*", r"e\1", text)
