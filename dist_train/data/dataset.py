"""Batches of uint8 images, read by ``SampleKey``."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dist_train.data.augment import Transform
from dist_train.data.bad import BadImages, SplitName
from dist_train.data.decode import RGB, BadImage
from dist_train.data.index import DataIndex
from dist_train.data.stream import SampleKey
from dist_train.errors import DataError
from dist_train.plan import fold_in

Batch = tuple[Tensor, Tensor, Tensor]
"""Images uint8 [B, H, W, 3], targets int64 [B] or float32 [B, K], and the images' indices in the split int64 [B]."""

REPLACEMENTS = 100
"""Images tried in place of a bad one."""


class ImageDataset(Dataset[Batch]):
    """One split of images. ``dataset.__getitems__(keys)`` reads a whole batch, each image once into its place.

    A bad training image is replaced by another, which follows from the seed, the epoch and the index: it is the
    same after a resume and at any world size. A bad validation image is black, and its index is ``len(dataset)``.
    """

    def __init__(
        self, index: DataIndex, split: SplitName, transform: Transform, size: int, seed: int, bad: BadImages
    ) -> None:
        self._images, self._name, self._bad = index.images, split, bad
        self._split = index.train if split == "train" else index.val
        self._transform, self._size, self._seed = transform, size, seed

    def __len__(self) -> int:
        return len(self._split)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        # In huge pages, which NumPy asks for. Memory shared with the training process costs more than a copy to it.
        pixels = np.empty((len(keys), self._size, self._size, 3), dtype=np.uint8)
        indices = []
        for place, (epoch, index) in enumerate(keys):
            image, taken = self._read(epoch, index)
            indices.append(taken)
            if image is None:
                pixels[place] = 0
            else:
                self._transform(image, fold_in(self._seed, "sample", epoch, index), pixels[place])
        labels = self._split.labels[[min(index, len(self) - 1) for index in indices]]
        return torch.from_numpy(pixels), torch.from_numpy(labels), torch.tensor(indices)

    def _read(self, epoch: int, index: int) -> tuple[RGB | None, int]:
        """An image and its index in the split."""
        taken = index
        for attempt in range(REPLACEMENTS):
            try:
                return self._images.read(self._split.name(taken)), taken
            except BadImage as error:
                self._bad.note(self._name, taken, error)
            if self._name == "val":
                return None, len(self)
            taken = fold_in(self._seed, "replacement", epoch, index, attempt) % len(self)
        raise DataError(f"{REPLACEMENTS} images in a row cannot be read; the last: {self._split.name(taken)}")
