"""Whether the head of a model can train on its input alone."""

import os.path
from dataclasses import replace

import torch
from torch import Tensor, nn

from dist_train.errors import ConfigError
from dist_train.evaluation.features import given_to, head_paths
from dist_train.model.freeze import train_mode
from dist_train.model.network import HeadAlone, Network
from dist_train.training.parts.trial import TRIAL_IMAGES, left_as_found

KEY = "`train.cached_features` (true)"


def with_head_alone(network: Network, name: str, device: torch.device) -> Network:
    """Return the network whose batches are features.

    Args:
        name: of the model.

    Raises:
        ConfigError: the model has several heads or a convolution as its head, changes the output of its head, or gives an image
            other features in training.
    """
    path, module = _root(head_paths(network)), network.module
    if path is None or any(isinstance(part, nn.Conv2d) for part in module.get_submodule(path).modules()):
        raise ConfigError(f"{KEY}: {name} has several heads, or a convolution as its head; remove the key")
    images = torch.rand(network.blank_shape(TRIAL_IMAGES), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad(), left_as_found(module, device):
        train_mode(module)
        (trained, _), (again, _) = (_pass(module, path, images) for _ in range(2))
        module.eval()
        features, outputs = _pass(module, path, images)
        alone = HeadAlone(module, path)(features) if len(features) else features
    train_mode(module)
    if not (_alike(trained, features) and _alike(again, features)):
        raise ConfigError(
            f"{KEY}: the features of {name} differ between training and evaluation, as with dropout before its head "
            "(`model.options`); switch that off, or remove the key"
        )
    if not isinstance(outputs, Tensor) or not _alike(alone, outputs):
        raise ConfigError(f"{KEY}: the output of {name} is not the output of its head ({path}); remove the key")
    return replace(network, head_alone=path)


def _root(paths: list[str]) -> str | None:
    """Return the path of the module that holds all layers of the head; None if it is the whole model."""
    return os.path.commonpath([path.replace(".", "/") for path in paths]).replace("/", ".") or None


def _pass(module: nn.Module, path: str, images: Tensor) -> tuple[Tensor, object]:
    """Return the features, [B, D], and the output of a pass; no features if it does not call the head."""
    with given_to(module, [path]) as taken:
        outputs = module(images)
    return (taken[0] if len(taken) == 1 else images.new_zeros(0)), outputs


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-4)
