"""Images by name: files below a folder, or samples of a data set object such as torchvision's."""

import hashlib
import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from dist_train.config.user_code import load_callable
from dist_train.data.decoding.arrays import as_pixels
from dist_train.data.decoding.decode import from_array, from_image, left_out, open_picture, stored_values
from dist_train.data.decoding.deep import DeepImage, deep_image
from dist_train.data.decoding.picture import BadImage, Decoded, Picture, Pixels
from dist_train.data.decoding.rules import DEFAULT_RULES, DecodeRules
from dist_train.errors import ConfigError, DataError


@dataclass(frozen=True)
class FileImages:
    """Names are paths below ``root``, or absolute."""

    root: str
    rules: DecodeRules = field(default=DEFAULT_RULES, kw_only=True)

    def open(self, name: str) -> Picture:
        return open_picture(os.path.join(self.root, name), self.rules)

    def deep(self, name: str) -> DeepImage | None:
        return stored_values(os.path.join(self.root, name), self.rules)

    def left_out(self, name: str) -> list[str]:
        return left_out(os.path.join(self.root, name))

    def with_rules(self, rules: DecodeRules) -> "FileImages":
        return replace(self, rules=rules)

    def content(self, name: str, most: int | None = None) -> bytes:
        """Return the bytes of a file, or its first ``most`` ones; raise ``DataError`` if it cannot be read."""
        path = os.path.join(self.root, name)
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read(-1 if most is None else most)
        except OSError as error:
            raise DataError(f"cannot read the image {path}: {error.strerror}") from None


@dataclass(frozen=True)
class DatasetImages:
    """Names are ``<split>/<number>`` in data sets that every process opens for itself (or inherits, opened)."""

    maker: str
    root: str
    rules: DecodeRules = field(default=DEFAULT_RULES, kw_only=True)

    def with_rules(self, rules: DecodeRules) -> "DatasetImages":
        return replace(self, rules=rules)

    def deep(self, name: str) -> DeepImage | None:
        """Return an image of more than 8 bits per channel with its values; None for all others.

        Raises:
            DataError: the set returns an array that could mean several things.
        """
        try:
            image = self._read(name)
        except BadImage:
            return None
        found = (
            deep_image(image)
            if isinstance(image, Image.Image)
            else as_pixels(f"{name} of {self.maker}", image, self.rules.channels)
        )
        return found if isinstance(found, DeepImage) else None

    def left_out(self, name: str) -> list[str]:
        return []

    def dataset(self, split: str) -> Any:
        """Return the split ``train`` or ``val``."""
        return open_dataset(self.maker, self.root, split)

    def open(self, name: str) -> Picture:
        """Return an image; raise ``BadImage`` and ``DataError`` as ``open_picture`` does, for sets that read files."""
        image = self._read(name)
        try:
            if isinstance(image, Image.Image):
                return Decoded(from_image(image, self.rules))
            return Decoded(self._from_array(f"{name} of {self.maker}", image))
        except ValueError as error:
            raise BadImage(f"cannot read image {name} of {self.maker}: {error}") from None

    def _read(self, name: str) -> Any:
        split, number = name.split("/")
        dataset = self.dataset(split)
        try:
            image = dataset[int(number)][0]
            if isinstance(image, Image.Image):
                image.load()
            return image
        except (OSError, SyntaxError) as error:  # Pillow's, of broken files; the system's have a number
            kind = BadImage if getattr(error, "errno", None) is None else DataError
            raise kind(f"cannot read image {name} of {self.maker}: {error}") from None

    def _from_array(self, name: str, image: Any) -> Pixels:
        if self.rules.as_0_1_0:
            with suppress(TypeError, ValueError):
                return from_image(Image.fromarray(np.asarray(image)), self.rules)
        return from_array(name, image, self.rules)


@dataclass(frozen=True, eq=False)
class GivenImages(DatasetImages):
    """Data sets given in code. Every process has them: they do not travel."""

    train: Any
    val: Any

    def dataset(self, split: str) -> Any:
        return self.train if split == "train" else self.val


@lru_cache(maxsize=4)
def open_dataset(maker: str, root: str, split: str) -> Any:
    """Return the split ``train``, ``val`` or ``test`` of a data set object.

    Args:
        maker: ``torchvision:<name>``, or ``package.module:callable``, which is called with root and split.

    Raises:
        ConfigError: the set or the callable is missing.
        DataError: its files are missing, or it has no such split.
    """
    module, _, name = maker.partition(":")
    if module == "torchvision":
        return _torchvision(name, root, split)
    made = load_callable(maker, "data.format")
    if split != "test":
        return made(root, split)
    try:
        return made(root, split)
    except (LookupError, ValueError, AssertionError, OSError) as error:
        raise DataError(
            f"`data.format` ({maker}) has no test set: called with {root!r} and 'test', it raised {type(error).__name__}: {error}"
        ) from error


TORCHVISION_SPLITS = {"train": ("train", "trainval"), "val": ("val", "valid", "test"), "test": ("test",)}
"""What torchvision's sets call each split; the first that a set has counts."""


def _torchvision(name: str, root: str, split: str) -> Any:
    from torchvision import datasets  # slow to import; only this format needs it

    if not name.isidentifier() or name not in datasets.__all__:
        raise ConfigError(f"`data.name` ({name}) is not a data set of torchvision, such as FashionMNIST or CIFAR10")
    made = getattr(datasets, name)
    if "train" in inspect.signature(made).parameters:
        choices: list[dict[str, Any]] = [{"train": split == "train"}]
    else:
        choices = [{"split": value} for value in TORCHVISION_SPLITS[split]]
    return _first_that_opens(made, name, root, choices)


def _first_that_opens(made: Callable[..., Any], name: str, root: str, choices: list[dict[str, Any]]) -> Any:
    for options in choices:
        try:
            return made(root, **options)
        except ValueError:  # the set has no split of that name
            continue
        except TypeError as error:
            raise ConfigError(
                f"`data.name` ({name}) cannot be opened by its name alone: {error}; write a callable and use "
                "`data.format=package.module:callable`"
            ) from None
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"`data.root` ({root}) does not hold {name}: {str(error).splitlines()[0]} On a machine with network run: "
                f'python -c "from torchvision.datasets import {name} as d; '
                + "; ".join(f"d('{root}', {_call(value)}, download=True)" for value in _both(options))
                + '"'
            ) from None
    names = ", ".join(str(value) for options in choices for value in options.values())
    raise ConfigError(f"`data.name` ({name}) has no split with one of these names: {names}")


def _both(options: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"train": True}, {"train": False}] if "train" in options else [options]


def _call(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def digest_of_pixels(dataset: Any) -> str:
    """Return the SHA-256 of the pixels that a data set object holds in memory as ``data``; empty if it holds none."""
    data = getattr(dataset, "data", None)
    if data is None or not hasattr(data, "__array__"):
        return ""
    return hashlib.sha256(np.ascontiguousarray(np.asarray(data)).tobytes()).hexdigest()
