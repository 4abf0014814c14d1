"""Images as the model gets them, with their targets, as pictures with captions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dist_train.config.plan import Plan
from dist_train.data.looking.captions import caption
from dist_train.data.looking.pictures import pictures
from dist_train.data.pipeline import DataPipeline
from dist_train.seeding import reseed


@dataclass(frozen=True)
class Batch:
    """Some images of a batch.

    Attributes:
        pictures: uint8 [H, W, 3], RGB.
        captions: one for each picture.
        mean, std: of each channel of the whole batch after normalisation: about 0 and 1 where it fits the images.
    """

    pictures: list[NDArray[np.uint8]]
    captions: list[str]
    mean: list[float]
    std: list[float]


def training_batch(data: DataPipeline, plan: Plan, key: int, most: int) -> Batch:
    """Return the first images of the first micro-batch of a run, after every transform, with the targets of the loss.

    Args:
        key: of the random numbers of this micro-batch, as a step gets it.
        most: how many images to return; the whole micro-batch is made, since Mixup pairs images of it.

    Raises:
        DataError: images cannot be read.
    """
    images, labels, _, *drawn = next(data.training_batches(plan, 0))
    reseed(key, [data.group.device])
    images, targets = data.augment()(images, labels, key, *drawn, mixing=plan.mixes(0))
    return _batch(data, images, targets, most)


def evaluation_batch(data: DataPipeline, most: int) -> Batch:
    """Return validation images at even distances, as an evaluation sees them."""
    read: Callable[..., tuple[Tensor, ...]] = data.validation.dataset.__getitems__  # type: ignore[attr-defined]
    count = len(data.index.val)
    shown = min(most, count)
    images, labels, indices = read([(0, number * count // shown) for number in range(shown)])
    readable = indices < count
    return _batch(data, data.normalise(images[readable].to(data.group.device)), labels[readable], most)


def _batch(data: DataPipeline, images_BCHW: Tensor, targets: Tensor, most: int) -> Batch:
    index, std_C = data.index, images_BCHW.std((0, 2, 3), correction=0)
    texts = [caption(index.task, index.classes, target) for target in targets[:most]]
    shown = list(pictures(images_BCHW[:most], data.normalise))
    return Batch(shown, texts, images_BCHW.mean((0, 2, 3)).tolist(), std_C.tolist())
