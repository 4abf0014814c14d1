"""One process on several GPUs: each GPU computes the loss of its part of the batch with a replica of the module."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dist_train.config.choices import LOSSES
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.base import Scalars, Strategy
from dist_train.errors import ConfigError

if TYPE_CHECKING:
    from dist_train.config.schema import Config

SAMPLES = "samples in this part"


class DataParallel(Strategy):
    """torch's DataParallel, but with the mean over samples, since the parts of a batch may differ in size."""

    def __init__(self, group: Dist) -> None:
        super().__init__(group)
        self.devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())] or self.devices

    def refuse(self, cfg: "Config") -> None:
        reasons = {
            "`model.sync_bn` (true)": (cfg.model.sync_bn, "start with torchrun, or set it to false"),
            # Every replica would compute with the weights of the first.
            "`model.compile`": (bool(cfg.model.compile), "start with torchrun, or set it to false"),
            "`distributed.gradient_dtype` (bf16)": (
                cfg.distributed.gradient_dtype == "bf16",
                "start with torchrun, or use fp32",
            ),
            "`train.precision` (fp16)": (cfg.train.precision == "fp16", "use amp_fp16"),
            # A trial sees one GPU, and a step uses all.
            "`train.micro_batch` (auto)": (cfg.train.micro_batch == "auto", "start with torchrun, or give a number"),
            # A ratio over the whole batch is not the mean of the ratios of its parts.
            f"`loss.name` ({cfg.loss.name})": (
                LOSSES.find(cfg.loss.name).whole_batch,
                "start with torchrun, or use another loss",
            ),
        }
        for key, (wanted, fix) in reasons.items():
            if wanted:
                raise ConfigError(f"{key} does not work with DataParallel; {fix}")

    def wrap(self, module: nn.Module, all_used: bool) -> nn.Module:
        return _MeanOverParts(Part(module))


class Part(nn.Module):
    """Returns each scalar as a vector [1], which DataParallel can concatenate, and the number of samples."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor, targets: Tensor) -> Scalars:
        scalars = {name: value.view(1) for name, value in self.module(images, targets).items()}
        return scalars | {SAMPLES: images.new_full((1,), len(images), dtype=torch.float32)}


class _MeanOverParts(nn.DataParallel[nn.Module]):
    def forward(self, images: Tensor, targets: Tensor) -> Scalars:
        return mean_over_parts(super().forward(images, targets))


def mean_over_parts(joined: Scalars) -> Scalars:
    """Return the mean over all samples of a batch that was split into P parts.

    Args:
        joined: vectors [P]: the mean over each part, by name, and the number of samples of each part.
    """
    samples = joined.pop(SAMPLES)
    share = samples / samples.sum()
    return {name: (value * share).sum() for name, value in joined.items()}
