"""``augment.ops`` of a run, in order, on the CPU.

All that an operation draws follows from the key of the sample: before the first one, the generators of Python, NumPy, torch
and OpenCV are seeded; after the last one, those of this process are what they were.
"""

import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from dist_train.config.ops.options import RandAugment
from dist_train.config.ops.table import OPS
from dist_train.config.user_code import function_of, load_callable
from dist_train.data.augment.draws import CODES
from dist_train.data.augment.ops.forms import Form, Place, Sample, form_of, of_randaugment, on_pil, sometimes
from dist_train.data.augment.ops.seeded import seeded_generators
from dist_train.data.augment.randaugment_cpu import operations
from dist_train.data.decoding.picture import DTYPES, RGB
from dist_train.errors import ConfigError, DataError
from dist_train.seeding import fold_in

if TYPE_CHECKING:
    from dist_train.config.sections.augment import OpConfig


class Chain:
    """Operations in order.

    Attributes:
        shape, dtype: of the images, (H, W, C), uint8 or uint16.
        parts: the name of each operation for messages, and the operation.

    Args:
        ops: all of ``augment.ops``.
        skip: how many at its beginning are applied elsewhere.

    Raises:
        ConfigError: one of them cannot be made, or does not make an image of a black image.
    """

    def __init__(self, ops: Sequence["OpConfig"], place: Place, skip: int = 0) -> None:
        self.shape, self.dtype = place.shape, DTYPES[place.bits]
        codes = _Codes(ops)
        self.parts: list[tuple[str, Form]] = []
        for number, op in enumerate(ops):
            form = codes.form(place) if op.name == "randaugment" else _made(op, number, place)
            if number >= skip:
                self.parts.append((f"`augment.ops.{number}` ({op.name})", form))
        self._codes = codes.count
        for name, form in self.parts:
            self._try(name, form)

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __call__(self, pixels: RGB, key: int, codes: tuple[int, ...]) -> RGB:
        """Return an image, uint8 [H, W, 3], after all operations.

        Args:
            codes: of all RandAugment operations that were drawn for the sample.

        Raises:
            DataError: an operation returned something else than such an image.
        """
        sample = Sample(key, codes)
        with seeded_generators(fold_in(key, "ops")):
            for name, form in self.parts:
                pixels = self._checked(name, form(pixels, sample), DataError)
        return pixels

    def each(self, pixels: RGB, key: int) -> list[RGB]:
        """Return what each operation alone makes of an image; RandAugment with operations that follow from ``key``."""
        codes = tuple(np.random.default_rng(key).choice(CODES, self._codes).tolist())
        found = []
        for name, form in self.parts:
            with seeded_generators(fold_in(key, "ops")):
                found.append(self._checked(name, form(pixels, Sample(key, codes)), ConfigError))
        return found

    def _checked(self, name: str, found: Any, error: type[Exception]) -> RGB:
        if isinstance(found, np.ndarray) and found.dtype == self.dtype and found.shape == self.shape:
            return found
        was = f"{found.dtype} {list(found.shape)}" if hasattr(found, "dtype") else type(found).__name__
        raise error(f"{name} returns {was}; it must return an image, {np.dtype(self.dtype)} {list(self.shape)}")

    def _try(self, name: str, form: Form) -> None:
        with seeded_generators(0):
            try:
                found = form(np.zeros(self.shape, dtype=self.dtype), Sample(0, (0,) * self._codes))
            except (TypeError, ValueError, RuntimeError, AssertionError) as error:
                height, width, _ = self.shape
                raise ConfigError(f"{name} cannot be applied to an image of {width} x {height} px: {error}") from error
        self._checked(name, found, ConfigError)


class _Codes:
    """Deals the codes of a sample out to the RandAugments of a run, in their order."""

    def __init__(self, ops: Sequence["OpConfig"]) -> None:
        self._left = [RandAugment(**op.options) for op in ops if op.name == "randaugment"]
        self.count = 0

    def form(self, place: Place) -> Form:
        options = self._left.pop(0)
        first, self.count = self.count, self.count + options.num_ops
        return of_randaugment(operations(options, place.height, place.width), first, options.num_ops)


def _made(op: "OpConfig", number: int, place: Place) -> Form:
    if op.name not in OPS.rows:
        return _own(op, number)
    build = function_of(OPS, op.name)
    assert op.p is not None
    return sometimes(on_pil(build(place, **op.options)), op.p)


def _own(op: "OpConfig", number: int) -> Form:
    """Return an object of the class that the entry names. ``p`` goes to the class if it takes one."""
    name = f"`augment.ops.{number}` ({op.name})"
    with _without_questions():
        kind = load_callable(op.name, f"augment.ops.{number}")
    inner = op.p is not None and _takes_p(kind)
    if inner and "p" in op.options:
        raise ConfigError(f"{name} has `p` twice, in its `options` and beside them; remove one")
    try:
        with warnings.catch_warnings():
            # albumentations only warns of an option that it does not know.
            warnings.filterwarnings("error", message=r"Argument\(s\) .* not valid for transform")
            made = kind(**op.options, **({"p": op.p} if inner else {}))
    except (TypeError, ValueError, UserWarning) as error:
        raise ConfigError(f"{name} does not take its `options`: {error}") from error
    form = form_of(made, number)
    return form if inner or op.p is None else sometimes(form, op.p)


@contextmanager
def _without_questions() -> Iterator[None]:
    """Keep albumentations from asking a server for its newest version when it is imported."""
    before = os.environ.get("NO_ALBUMENTATIONS_UPDATE")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["NO_ALBUMENTATIONS_UPDATE"]


def _takes_p(kind: Any) -> bool:
    try:
        return "p" in inspect.signature(kind).parameters
    except ValueError:  # written in C
        return False
