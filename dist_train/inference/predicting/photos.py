"""Files to predict, as loader processes read them."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dist_train.data.dataset import Batch, ImageBatches
from dist_train.data.sampler import SampleKey
from dist_train.errors import DataError

if TYPE_CHECKING:
    from dist_train.inference.predictor import ImageTransform, Source


ERRORS = 1
"""The place in a batch of what ``errors_in`` reads."""


class Photos(ImageBatches):
    """Batches of images: pixels [B, H, W, C], and what ``errors_in`` reads.

    An image that cannot be read is black, as in an evaluation: the other images of its batch are predicted all the same.
    """

    def __init__(self, images: "Sequence[Source]", transform: "ImageTransform") -> None:
        super().__init__()
        self._images, self._transform = images, transform

    @property
    def image_bytes(self) -> int:
        return math.prod(self._transform.shape) * np.dtype(self._transform.dtype).itemsize

    def name(self, index: int) -> str:
        return str(self._images[index])

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        pixels = self._transform.blank(len(keys))
        errors = {}
        for place, (_, index, *_) in enumerate(keys):
            self.reading[0] = index
            try:
                pixels[place] = self._transform.pixels(self._images[index])
            except DataError as error:
                errors[place] = str(error)
        return torch.from_numpy(pixels), torch.from_numpy(np.frombuffer(json.dumps(errors).encode(), np.uint8).copy())


def errors_in(errors: Tensor) -> dict[int, str]:
    """Return why images of a batch cannot be read, by their place in it, from the batch's tensor ``ERRORS``."""
    return {int(place): reason for place, reason in json.loads(errors.numpy().tobytes()).items()}
