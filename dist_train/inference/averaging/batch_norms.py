"""Statistics of BatchNorms, recomputed for averaged weights: those of a mean are not the mean of those."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.config.planning import make_plan
from dist_train.config.schema import Config
from dist_train.data.index import DataIndex
from dist_train.data.pipeline import open_data
from dist_train.distributed.group import Dist
from dist_train.model.network import Network

IMAGES = 20_000
"""Training images that pass through the model, at most: enough for means and variances, minutes on a CPU."""


def moving(model: nn.Module, differing: frozenset[str]) -> list[_BatchNorm]:
    """Return the BatchNorms with statistics of which some differ; the others were frozen, and stay as they are."""
    return [
        part
        for name, part in model.named_modules()
        if isinstance(part, _BatchNorm)
        and part.running_mean is not None
        and {f"{name}.running_mean", f"{name}.running_var"} & differing
    ]


@torch.no_grad()
def recompute(model: nn.Module, norms: list[_BatchNorm], batches: Iterable[Tensor]) -> None:
    """Replace the statistics of ``norms`` by the means over ``batches``, as ``torch.optim.swa_utils.update_bn`` does.

    All other layers stay in eval mode: torch's function has dropout on, and frozen BatchNorms move.
    """
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for images in batches:
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def training_images(cfg: Config, network: Network, index: DataIndex, group: Dist) -> Iterator[Tensor]:
    """Yield normalised images, float32 [B, 3, S, S], of the training set, transformed as in training but not mixed."""
    data = open_data(cfg, group, index, network)
    augment = data.augment()
    for key, (images, labels, _, *drawn) in enumerate(data.training_batches(make_plan(cfg, len(index.train), 1), 0)):
        yield augment(images, labels, key, *drawn)[0]


def one_pass(cfg: Config, images: int) -> list[str]:
    """Return the overrides that make a run's config one pass over ``images`` training images in one process."""
    batch = min(cfg.eval.batch_size, images)
    return [
        f"train.global_batch={batch}",
        "train.micro_batch=null",
        "train.epochs=1",
        f"train.max_steps={-(-min(IMAGES, images) // batch)}",
        "optim.lr_base=null",
        "schedule.warmup_epochs=0.0",
        "schedule.cooldown_epochs=0.0",
        "model.unfreeze={}",
        "augment.device=false",
        "augment.repeats=1",
        "augment.mix_off_epoch=null",
        "augment.mixup=0.0",
        "augment.cutmix=0.0",
    ]
