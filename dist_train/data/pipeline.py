"""Everything that depends on an open data set: one call for training, evaluation and prediction on validation images."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.config.types import Size
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.augment.on_cpu import evaluation_transform, training_transform, without_draws
from dist_train.data.augment.on_device import AsTheyAre, DeviceAugment, Normalise
from dist_train.data.augment.size_schedule import largest_size, training_sizes
from dist_train.data.bad_images import BadImages
from dist_train.data.dataset import Batch, ImageDataset, SmallImages, View
from dist_train.data.decoding.picture import DTYPES
from dist_train.data.formats.tables.further import WEIGHT
from dist_train.data.index import DataIndex
from dist_train.data.loader import evaluation_loader, on_device, training_loader
from dist_train.data.loading.feature_set import FeatureSet, evaluation_features, training_features
from dist_train.data.loading.room import Needs, check_room, needs
from dist_train.data.pixels.cache import open_cache
from dist_train.data.pixels.images import Cache
from dist_train.data.sampler import EvaluationBatches, StreamSampler
from dist_train.data.selection.sampling import sampling_of
from dist_train.data.shards.stage import staged
from dist_train.data.workers import loader_processes
from dist_train.distributed.group import Dist
from dist_train.model.network import Network, mean_colour
from dist_train.run.folder import RunDir

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataPipeline:
    """A data set as a model wants it.

    Attributes:
        normalise: from uint8 or uint16 [B, H, W, C] to what the model takes, float32 [B, C, H, W].
        validation: this rank's share of the validation set.
        bad_images: the images that could not be read so far.
        cache: the decoded images, with ``augment.device``.
        features: of the training images, which take their place (``train.cached_features``).
    """

    cfg: Config
    group: Dist
    index: DataIndex
    network: Network
    normalise: Normalise
    validation: DataLoader[Batch]
    bad_images: BadImages
    cache: Cache | None
    features: FeatureSet | None = None

    def training_batches(self, plan: Plan, position: int) -> Iterator[Batch]:
        """Return this rank's micro-batches from optimizer step ``position`` to the end of the run."""
        cfg, device = self.cfg, self.group.device
        sampling = sampling_of(cfg.data.sampling, self.index.train)
        sampler = StreamSampler(self.index.train, plan, self.group.rank, cfg.run.seed, position, sampling)
        if self.features is not None:
            return on_device(training_features(self.features, sampler, plan.micro_batch, device), device)
        dataset = training_images(cfg, self.index, self.network, self.bad_images, self.cache)
        return on_device(training_loader(cfg.data, dataset, sampler, plan.micro_batch, device), device)

    def training_in_order(self) -> DataLoader[Batch]:
        """Return this rank's share of the training images, each once, in batches as those of an evaluation."""
        dataset = training_images(self.cfg, self.index, self.network, self.bad_images, None)
        batches = EvaluationBatches(len(dataset), self.cfg.eval.batch_size, self.group.rank, self.group.world_size)
        return evaluation_loader(self.cfg.data, dataset, batches, self.group.device)

    def of_features(self, train: Tensor, val: Tensor) -> "DataPipeline":
        """Return the same data set with features, float32 [N, D], in place of images."""
        cfg, group = self.cfg, self.group
        normalise = AsTheyAre(cfg.data, self.network, group.device, cfg.model.channels_last)
        batches = EvaluationBatches(len(val), cfg.eval.batch_size, group.rank, group.world_size)
        validation = evaluation_features(FeatureSet(val, self.index.val), batches, group.device)
        features = FeatureSet(train, self.index.train)
        return replace(self, normalise=normalise, validation=validation, features=features)

    def loss_weights(self) -> Tensor | None:
        """Return the factor on the loss of each training image, float32 [N] on the device; None if all are 1."""
        weights_N = self.index.train.columns.get(WEIGHT)
        return None if weights_N is None else torch.from_numpy(weights_N).float().to(self.group.device)

    def augment(self) -> DeviceAugment:
        """Return what happens to a training batch on the device."""
        cfg, size = self.cfg, self.network.image_size
        return DeviceAugment(cfg.augment, cfg.loss, self.normalise, self.index, self.group.device, size)


def open_data(cfg: Config, group: Dist, index: DataIndex, network: Network, train: bool = True) -> DataPipeline:
    """Open a data set for a model. Every rank must call it.

    Args:
        train: also for training; with ``augment.device`` this builds the cache of decoded images.

    Raises:
        ConfigError, DataError: the cache cannot be built, or the machine has no room for the loader processes.
    """
    index = staged(cfg.data, index, group) if train else index
    with group.together():
        warning = check_room(loader_needs(cfg, network, group.world_size)) if train else None
    if warning and group.local_rank == 0:
        log.warning("%s", warning)
    normalise = Normalise(cfg.data, network, group.device, cfg.model.channels_last)
    bad_images = BadImages(cfg.data, index)
    record = RunDir.of(cfg.run).pixel_cache
    cache = open_cache(cfg.data, index, group, bad_images.note, record) if train and cfg.augment.device else None
    images = validation_images(cfg, index, network, bad_images, cache)
    batches = EvaluationBatches(len(images), cfg.eval.batch_size, group.rank, group.world_size)
    validation = evaluation_loader(cfg.data, images, batches, group.device)
    return DataPipeline(cfg, group, index, network, normalise, validation, bad_images, cache)


def loader_needs(cfg: Config, network: Network, world_size: int) -> Needs:
    """Return what the loader processes of a training on ``world_size`` ranks need of a machine."""
    given = cfg.train.micro_batch
    micro_batch = given if isinstance(given, int) else -(-cfg.train.global_batch // world_size)
    frame = evaluation_frame(cfg, network)
    largest = largest_size(cfg.augment, network.image_size)
    training, evaluation = (
        math.prod(network.blank_shape(*batch)) for batch in ((micro_batch, largest), (cfg.eval.batch_size, frame.size))
    )
    batches = (training + evaluation) * cfg.data.bits // 8
    return needs(loader_processes(cfg.data), cfg.data.prefetch, batches)


def training_images(
    cfg: Config, index: DataIndex, network: Network, bad: BadImages, cache: Cache | None
) -> ImageDataset:
    """Return the training split, transformed on the CPU; from ``cache`` small images, which the device transforms."""
    size, seed = network.image_size, cfg.run.seed
    if cache is not None:
        return SmallImages(index.train, cache.reader("train"), cfg.augment, cache.size, seed, bad.note, size)
    views = {epoch: _training_view(cfg, network, size) for epoch, size in training_sizes(cfg.augment, size).items()}
    return ImageDataset(index.train, "train", index.opener("train"), views, seed, bad.note)


def _training_view(cfg: Config, network: Network, size: Size) -> View:
    shape, dtype = (*size, network.channels), DTYPES[cfg.data.bits]
    colour = mean_colour(cfg.data, network)
    return View(training_transform(cfg.augment, size, colour, cfg.data.bits, network.channels), shape, dtype)


def validation_images(
    cfg: Config, index: DataIndex, network: Network, bad: BadImages, cache: Cache | None = None
) -> ImageDataset:
    """Return the validation split, transformed without random numbers."""
    frame = evaluation_frame(cfg, network)
    transform = without_draws(evaluation_transform(frame))
    open_image = cache.reader("val") if cache else index.opener("val")
    view = View(transform, (*frame.size, network.channels), DTYPES[cfg.data.bits])
    return ImageDataset(index.val, "val", open_image, {0: view}, cfg.run.seed, bad.note)
