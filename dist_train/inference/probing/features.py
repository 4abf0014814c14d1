"""The features of a split, for the methods that are fitted to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from dist_train.config.schema import Config
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.index import DataIndex
from dist_train.data.loader import end_loaders, on_device
from dist_train.data.pipeline import open_data
from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.evaluation.features import FeaturePass
from dist_train.inference.probing.fits import Features
from dist_train.learning.precision import Precision
from dist_train.model.network import Network
from dist_train.training.report.explained import explained


def features(cfg: Config, network: Network, index: DataIndex, group: Dist, split: Split) -> Features | None:
    """Compute the features of all images of ``split``, one of ``index``, as an evaluation sees them.

    The batches are the same at any world size, and so are the features. Every rank must call it.

    Returns:
        The features on rank 0, None on others.

    Raises:
        ConfigError: the model gives nothing to its head.
        DataError: images cannot be read.
    """
    data = open_data(cfg, group, replace(index, val=split), network, train=False)
    blank = torch.zeros(network.blank_shape(1, evaluation_frame(cfg, network).size), device=group.device)
    try:
        with group.together(), faults_named(cfg):
            found = FeaturePass(network, cfg.model.name, Precision(cfg.train, group.device), group, len(split), blank)
            found.over(on_device(data.validation, group.device), data.normalise, len(data.validation))
        values, read = found.of_all_ranks(group)
        data.bad_images.check(group)
    finally:
        end_loaders()
    if values is None:
        return None
    labels = torch.from_numpy(split.labels[:])
    return Features(values, labels) if read.all() else Features(values[read], labels[read])


@contextmanager
def faults_named(cfg: Config) -> Iterator[None]:
    """Turn errors of the machine in the block into errors that say what to do.

    Raises:
        ConfigError: out of memory.
        DistTrainError: another known error.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigError(
            f"out of memory with `eval.batch_size` ({cfg.eval.batch_size}); lower it, or use a smaller `data.image_size`"
        ) from error
    except Exception as error:
        known = explained(error, cfg)
        if known is error:
            raise
        raise known from error
