"""The features of images: what a model gives to its head. Each rank computes its batches; rank 0 has all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dist_train.config.schema import Config
from dist_train.data.augment.frame import evaluation_frame
from dist_train.data.index import DataIndex
from dist_train.data.loader import end_loaders, on_device
from dist_train.data.pipeline import DataPipeline, open_data
from dist_train.data.split import Split
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.evaluation.metrics import OutputRows
from dist_train.inference.probing.fits import Features
from dist_train.learning.precision import Precision
from dist_train.model.network import Network
from dist_train.system.progress import advance, shown
from dist_train.training.failure import explained


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
    try:
        with group.together(), faults_named(cfg):
            found = _Pass(cfg, network, group, len(split))
            found.over(data)
        values, read = found.rows.of_all_ranks(group), group.sum(found.read)[:-1].cpu() > 0
    finally:
        end_loaders()
    if values is None:
        return None
    labels = torch.from_numpy(split.labels[:])
    return Features(values, labels) if read.all() else Features(values[read], labels[read])


@contextmanager
def faults_named(cfg: Config) -> Iterator[None]:
    """Turn errors of the machine in the block into those that say what to do.

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


class _Pass:
    """One pass of a model over the images of this rank.

    Attributes:
        rows: the features of the images of this rank.
        read: int32 [N + 1] on the device: 1 for each of them that could be read; the last one is for those that could not.
    """

    def __init__(self, cfg: Config, network: Network, group: Dist, length: int) -> None:
        self._module, self._paths = network.module.eval(), head_paths(network)
        self._precision = Precision(cfg.train, group.device)
        blank = torch.zeros(network.blank_shape(1, evaluation_frame(cfg, network).size), device=group.device)
        width = self._of(blank).shape[1]
        self.rows = OutputRows(length, width, group.device)
        self.read = torch.zeros(length + 1, dtype=torch.int32, device=group.device)
        self._device, self._name = group.device, cfg.model.name

    def over(self, data: DataPipeline) -> None:
        """Compute the features of all batches of this rank."""
        loader = data.validation
        with shown(f"features of {self._name}", "batches", len(loader)):
            for images, _, indices in on_device(loader, self._device):
                self.rows.add(self._of(data.normalise(images)), indices)
                self.read[indices] = 1
                advance()

    @torch.no_grad()
    def _of(self, images: Tensor) -> Tensor:
        with given_to(self._module, self._paths) as taken, self._precision.autocast():
            self._module(images)
        if not taken:
            raise ConfigError(
                f"its forward pass does not call its head ({', '.join(self._paths)}), so it shows no features"
            )
        return torch.cat(taken, dim=1)


def head_paths(network: Network) -> list[str]:
    """Return the paths of the layers of the head; a model with auxiliary heads has several."""
    return sorted({name.rpartition(".")[0] for name in network.head})


@contextmanager
def given_to(module: nn.Module, paths: list[str]) -> Iterator[list[Tensor]]:
    """Collect what the layers at ``paths`` get in a forward pass, as features float32 [B, D] of each."""
    taken: list[Tensor] = []

    def take(layer: nn.Module, args: tuple[Any, ...]) -> None:
        taken.append(pooled(layer, args[0]))

    handles = [module.get_submodule(path).register_forward_pre_hook(take) for path in paths]
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def pooled(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the input of a layer, [B, D], [B, ..., D] or of a convolution [B, D, H, W], as its mean over places, float32 [B, D]."""
    if isinstance(layer, nn.Conv2d):
        return inputs.float().mean((2, 3))
    return inputs.float().flatten(1, -2).mean(1) if inputs.ndim > 2 else inputs.float()
