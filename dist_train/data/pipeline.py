"""Everything that depends on an open data set: one call for training, evaluation and prediction on validation images."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader

from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.data.augment.on_device import DeviceAugment, Normalise
from dist_train.data.bad_images import BadImages
from dist_train.data.cache import Cache, open_cache
from dist_train.data.dataset import Batch
from dist_train.data.index import DataIndex
from dist_train.data.loader import evaluation_loader, training_batches
from dist_train.distributed.group import Dist
from dist_train.model.build import Network


@dataclass(frozen=True)
class DataPipeline:
    """A data set as a model wants it.

    Attributes:
        normalise: from uint8 [B, H, W, 3] to what the model takes, float32 [B, 3, H, W].
        validation: this rank's share of the validation set.
        bad_images: the images that could not be read so far.
        cache: the decoded images, with ``augment.device``.
    """

    cfg: Config
    group: Dist
    index: DataIndex
    network: Network
    normalise: Normalise
    validation: DataLoader[Batch]
    bad_images: BadImages
    cache: Cache | None

    def training_batches(self, plan: Plan, position: int) -> Iterator[Batch]:
        """Return this rank's micro-batches from optimizer step ``position`` to the end of the run."""
        parts = self.cfg, plan, self.group, self.index, self.network, self.bad_images
        return training_batches(*parts, position, self.cache)

    def augment(self) -> DeviceAugment:
        """Return what happens to a training batch on the device."""
        cfg, size = self.cfg, self.network.image_size
        return DeviceAugment(cfg.augment, cfg.loss, self.normalise, self.index, self.group.device, size)


def open_data(cfg: Config, group: Dist, index: DataIndex, network: Network, train: bool = True) -> DataPipeline:
    """Open a data set for a model. Every rank must call it.

    Args:
        train: also for training; with ``augment.device`` this builds the cache of decoded images.

    Raises:
        ConfigError, DataError: the cache cannot be built.
    """
    normalise = Normalise(cfg.data, network, group.device, cfg.model.channels_last)
    bad_images = BadImages(cfg.data, index)
    cache = open_cache(cfg.data, index, group, bad_images) if train and cfg.augment.device else None
    validation = evaluation_loader(cfg, group, index, network, bad_images, cache)
    return DataPipeline(cfg, group, index, network, normalise, validation, bad_images, cache)
