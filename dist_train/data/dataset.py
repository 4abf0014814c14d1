"""Batches of uint8 images, read by ``SampleKey``."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dist_train.config.types import Size
from dist_train.data.augment.draws import Drawer
from dist_train.data.augment.frame import with_margin
from dist_train.data.augment.packed_draws import packed
from dist_train.data.augment.size_schedule import of_epoch
from dist_train.data.decoding.picture import BadImage, Picture, Pixels, Transform
from dist_train.data.sampler import SampleKey
from dist_train.data.split import Split, SplitName
from dist_train.errors import DataError
from dist_train.seeding import fold_in

if TYPE_CHECKING:
    from dist_train.config.sections.augment import AugmentConfig

Batch = tuple[Tensor, ...]
"""Images uint8 (with `data.bits: 16` uint16) [B, H, W, C], targets int64 [B] or float32 [B, K], and the images' indices in the split int64 [B].

With ``augment.device``, training batches go on with what ``packed_draws.packed`` makes of the samples' draws.
"""

DRAWS = 3
"""Place of the draws in a batch: they stay on the host, where it is decided what happens."""

REPLACEMENTS = 100
"""Images tried in place of a bad one."""


@dataclass(frozen=True)
class View:
    """How an image becomes one of a batch.

    Attributes:
        shape: H, W and C in the batch.
        dtype: in the batch.
    """

    transform: Transform
    shape: tuple[int, int, int]
    dtype: type[np.uint8 | np.uint16] = np.uint8


class ImageBatches(Dataset[Batch], ABC):
    """Images that loader processes read, whole batches at a time: ``__getitems__(keys)``.

    Attributes:
        reading: int64 [1], the index of the image that is read now. In a loader process, memory that the training process sees.
    """

    def __init__(self) -> None:
        self.reading = np.zeros(1, dtype=np.int64)

    @property
    @abstractmethod
    def image_bytes(self) -> int:
        """Return the bytes of the largest image in a batch."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an image, for messages."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        """Return the images of the keys as a batch, pixels first."""


class ImageDataset(ImageBatches):
    """One split of images. ``dataset.__getitems__(keys)`` reads a whole batch, each image once into its place.

    A bad training image is replaced by another, which follows from the seed, the epoch and the index: it is the
    same after a resume and at any world size. A bad validation image is black, and its index is ``len(dataset)``.

    Args:
        views: how images become those of a batch, by the first epoch.
    """

    def __init__(
        self,
        split: Split,
        name: SplitName,
        open_image: Callable[[int], Picture],
        views: Mapping[int, View],
        seed: int,
        note_bad: Callable[[SplitName, int, BadImage], None],
    ) -> None:
        super().__init__()
        self._split, self._name, self._open, self._note_bad = split, name, open_image, note_bad
        self._views, self._seed = views, seed

    @property
    def image_bytes(self) -> int:
        """Return the bytes of the largest image in a batch."""
        return max(math.prod(view.shape) * np.dtype(view.dtype).itemsize for view in self._views.values())

    def name(self, index: int) -> str:
        """Return the name of an image of the split."""
        return self._split.name(index)

    def __len__(self) -> int:
        return len(self._split)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        # In huge pages, which NumPy asks for. Memory shared with the training process costs more than a copy to it.
        view = of_epoch(self._views, keys[0][0])  # a batch never spans two epochs
        pixels = np.empty((len(keys), *view.shape), dtype=view.dtype)
        try:
            indices = [self._place(key, view.transform, pixels[place]) for place, key in enumerate(keys)]
        except StopIteration as error:  # which a loader would take for the end of the data set
            raise RuntimeError(f"StopIteration while an image was read: {self.name(int(self.reading[0]))}") from error
        labels = self._split.labels[[min(index, len(self) - 1) for index in indices]]
        return torch.from_numpy(pixels), torch.from_numpy(labels), torch.tensor(indices)

    def key(self, sample: SampleKey) -> int:
        """Return the key of a sample's random numbers."""
        return fold_in(self._seed, "sample", *sample)

    def _place(self, sample: SampleKey, transform: Transform, target: Pixels) -> int:
        """Make a sample in its place in the batch. Return the index of the image that it was made of."""
        epoch, index, *_ = sample
        taken, key = index, self.key(sample)
        for attempt in range(REPLACEMENTS):
            self.reading[0] = taken
            try:
                transform(self._open(taken), key, target)
                return taken
            except BadImage as error:
                self._note_bad(self._name, taken, error)
            if self._name == "val":
                target[...] = 0
                return len(self)
            taken = fold_in(self._seed, "replacement", epoch, index, attempt) % len(self)
        raise DataError(f"{REPLACEMENTS} images in a row cannot be read; the last: {self._split.name(taken)}")


class SmallImages(ImageDataset):
    """Training images as the cache holds them, and with each batch what the device shall do to it (``packed``).

    Args:
        size: H and W of the images in the cache.
        model_size: H and W of the model's input.
    """

    def __init__(
        self,
        split: Split,
        open_image: Callable[[int], Picture],
        cfg: "AugmentConfig",
        size: Size,
        seed: int,
        note_bad: Callable[[SplitName, int, BadImage], None],
        model_size: Size,
    ) -> None:
        super().__init__(split, "train", open_image, {0: View(_copy, (*size, 3))}, seed, note_bad)
        self._draw, self._size = Drawer(cfg, model_size, with_margin), size

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        draws, rows = packed(self._draw(self.key(key), *self._size) for key in keys)
        return *super().__getitems__(keys), draws, rows


def _copy(picture: Picture, _key: int, target: Pixels) -> None:
    target[...] = picture.pixels()
