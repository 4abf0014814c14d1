"""Batches of uint8 images, read by ``SampleKey``."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dist_train.data.augment import Transform, read_rgb
from dist_train.data.index import Split
from dist_train.data.stream import SampleKey
from dist_train.plan import fold_in

Batch = tuple[Tensor, Tensor, Tensor]
"""Images uint8 [B, H, W, 3], labels int64 [B], and their indices in the data set int64 [B]."""


class ImageDataset(Dataset[Batch]):
    """One split of images. ``dataset.__getitems__(keys)`` reads a whole batch, each image once into its place."""

    def __init__(self, root: Path, split: Split, transform: Transform, size: int, seed: int) -> None:
        self._root, self._split, self._transform, self._size, self._seed = root, split, transform, size, seed

    def __len__(self) -> int:
        return len(self._split)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        indices = torch.tensor([index for _, index in keys])
        images = torch.empty((len(keys), self._size, self._size, 3), dtype=torch.uint8)
        pixels = images.numpy()
        for place, (epoch, index) in enumerate(keys):
            torch.default_generator.manual_seed(fold_in(self._seed, "sample", epoch, index))
            pixels[place] = self._transform(read_rgb(self._root / os.fsdecode(self._split.paths[index])))
        return images, torch.from_numpy(self._split.labels[indices.numpy()]), indices
