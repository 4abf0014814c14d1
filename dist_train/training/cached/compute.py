"""Compute the features of both splits when a run starts, and log what that saves."""

import itertools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from dist_train.config.plan import Plan
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.dataset import Batch
from dist_train.data.loader import end_loaders, on_device
from dist_train.evaluation.features import FeaturePass
from dist_train.learning.precision import Precision
from dist_train.model.freeze import train_mode
from dist_train.system.machine.clock import awake_s

if TYPE_CHECKING:
    from dist_train.data.pipeline import DataPipeline

log = logging.getLogger(__name__)

TIMED = 20
"""Micro-batches after the first, over which the speed on features is measured."""


def with_cached_features(data: "DataPipeline", precision: Precision) -> tuple["DataPipeline", float]:
    """Return the data set with features in place of images, and the images per second at which they were computed.

    Training images are transformed as in training, validation images as in an evaluation. The batches are the same at any
    world size, and so are the features; each rank has all of them. Every rank must call it.

    Raises:
        DataError: images cannot be read.
    """
    cfg, group, network = data.cfg, data.group, data.network
    sizes = network.image_size, evaluation_frame(cfg, network).size
    loaders = data.training_in_order(), data.validation
    splits, found = (data.index.train, data.index.val), []
    began = awake_s()
    try:
        for split, loader, size in zip(splits, loaders, sizes, strict=True):
            blank = torch.zeros(network.blank_shape(1, size), device=group.device)
            with group.together():
                one = FeaturePass(network, cfg.model.name, precision, group, len(split), blank)
                one.over(on_device(loader, group.device), data.normalise, len(loader))
            values, _ = one.of_all_ranks(group, everywhere=True)
            assert values is not None
            found.append(values)
    finally:
        end_loaders()
    train_mode(network.module)
    seconds, images = awake_s() - began, sum(map(len, splits))
    size_mib = sum(values.nbytes for values in found) / 2**20
    log.info(
        "`train.cached_features`: %d features of each of %d images, %.0f MiB on each rank, computed in %.1f s",
        *(found[0].shape[1], images, size_mib, seconds),
    )
    return data.of_features(*found), images / seconds


def timed(batches: Iterator[Batch], plan: Plan, before: float) -> Iterator[Batch]:
    """Yield the batches; after some of them, before the first evaluation, log how much faster steps are than with images.

    Args:
        before: images per second of a pass with images, by all ranks.
    """
    first = next(batches, None)
    if first is None:
        return
    yield first
    count = min(TIMED, (plan.eval_every_steps - 1) * plan.accumulate)
    began, images = awake_s(), 0
    for batch in itertools.islice(batches, count):
        yield batch
        images += len(batch[0]) * plan.world_size
    if images:
        after = images / max(awake_s() - began, 1e-9)
        log.info(
            "steps on features: %.0f images/s; computing the features: %.0f images/s; ratio %.1f",
            after,
            before,
            after / before,
        )
    yield from batches
