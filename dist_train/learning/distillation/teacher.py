"""The teacher of a distillation: a frozen model, of a run folder or a published one, on the images of the student."""

import difflib
import logging
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import torchvision.models as tv
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn import functional as F

from dist_train.config.schema import Config
from dist_train.config.sections.model import ModelConfig
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.model.backbones import torchvision_weights
from dist_train.model.build import build_model
from dist_train.model.network import Channels, Network, statistics
from dist_train.model.trained.open_model import open_model
from dist_train.run.folder import RunDir
from dist_train.run.named_code import came_with, named_code
from dist_train.run.saved_config import run_config

log = logging.getLogger(__name__)

KEY = "`loss.distill.teacher`"
SYNSET = re.compile(r"n\d{8}")
"""The names of ImageNet's class folders."""


class Teacher(nn.Module):
    """A frozen model that takes the normalised images of a student, in any size. It is on the CPU.

    Args:
        order: for each class of the student, its place among the teacher's outputs.
        images: mean and standard deviation with which the teacher's images are normalised.
        given: those with which the student's images are normalised.

    Raises:
        ConfigError: the images of the student have another number of channels.
    """

    order: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: Network,
        order: Sequence[int],
        images: tuple[Channels, Channels],
        given: tuple[Channels, Channels],
    ) -> None:
        super().__init__()
        if network.channels != len(given[0]):
            raise ConfigError(
                f"{KEY} takes images of {network.channels} channel(s), and `data.channels` is {len(given[0])}; use a teacher that "
                "was trained on such images"
            )
        self.module = network.module.requires_grad_(False).eval()
        self.size = network.image_size
        self._same_order, self._same_images = list(order) == list(range(len(order))), images == given
        (mean, std), (mean_given, std_given) = (tuple(map(_per_channel, pair)) for pair in (images, given))
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("scale", std_given / std, persistent=False)
        self.register_buffer("shift", (mean_given - mean) / std, persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits in the order of the student's classes, float32 [B, K]; images are float32 [B, C, H, W]."""
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", antialias=True)
        if not self._same_images:
            images = images * self.scale + self.shift
        logits: Tensor = self.module(images).float()
        return logits if self._same_order else logits[:, self.order]


def _per_channel(values: Channels) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def is_run(name: str) -> bool:
    """Return whether ``loss.distill.teacher`` is a folder, and not the name of a published model.

    Raises:
        ConfigError: this user cannot look at the path.
    """
    try:
        return stat.S_ISDIR(os.stat(name).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(
            f"{KEY} ({name}): {error.strerror}; correct the path, or give this user the right to read it"
        ) from None


def open_teacher(name: str, classes: list[str], given: tuple[Channels, Channels], group: Dist) -> Teacher:
    """Return the teacher on the device of this rank, with the weights that rank 0 reads. Every rank must call it.

    Args:
        name: ``loss.distill.teacher``.
        classes: the names of the student's classes.
        given: mean and standard deviation of the student's images.

    Raises:
        ConfigError: the run or model does not exist, its weights are missing, or its classes differ.
    """
    with group.together():
        opened = _of_run if is_run(name) else _published
        teacher = opened(name, classes, given, group.is_main).to(group.device)
    for tensor in teacher.module.state_dict().values():
        tensor.copy_(group.of_main(tensor))
    return teacher


def _of_run(name: str, classes: list[str], given: tuple[Channels, Channels], _load: bool) -> Teacher:
    path = Path(name)
    try:
        cfg = run_config(path)
        _refuse_its_code(path, cfg)
        run = open_model(RunDir(path), cfg)
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    if cfg.data.task != "classification" or set(run.classes) != set(classes):
        differing = sorted(set(run.classes) ^ set(classes))
        raise ConfigError(
            f"{KEY} ({name}) has other classes than the data: {', '.join(differing[:5])} only on one side, task {cfg.data.task}; use a "
            "teacher of the same classes"
        )
    log.info("teacher: %s of %s", cfg.model.name, run.file)
    images = statistics(cfg.data, run.network)
    return Teacher(run.network, [run.classes.index(one) for one in classes], images, given)


def _refuse_its_code(path: Path, cfg: Config) -> None:
    for code in named_code(cfg):
        if came_with(path, code) is not None:
            raise ConfigError(
                f"`{code.key}` ({code.spec}) of {path} is code that came with the run folder, and is not run; read it, and put "
                "it into a folder of yours on PYTHONPATH"
            )


def _published(name: str, classes: list[str], given: tuple[Channels, Channels], load: bool) -> Teacher:
    cfg = teacher_model(name)
    outputs, names = _outputs(cfg)
    if outputs != len(classes):
        raise ConfigError(
            f"{KEY} ({name}) has {outputs} classes, and the data {len(classes)}; use a teacher of the same ones"
        )
    if names is not None and all(SYNSET.fullmatch(one) for one in classes) and names != classes:
        raise ConfigError(f"{KEY} ({name}) has the classes of ImageNet in their usual order, and the data others")
    network = build_model(cfg, outputs, None, load)
    if names != classes:
        log.warning(
            "%s (%s): its %d outputs are taken to be the classes of the data, in their order", KEY, name, outputs
        )
    return Teacher(network, range(outputs), (network.mean, network.std), given)


def teacher_model(name: str) -> ModelConfig:
    """Return the config of the published model that teaches.

    Raises:
        ConfigError: neither timm nor torchvision has such a model.
    """
    stem = name.partition(".")[0]
    if timm.is_model(stem):
        return ModelConfig(source="timm", name=name)
    if stem in tv.list_models(module=tv):
        return ModelConfig(source="torchvision", name=name)
    near = difflib.get_close_matches(stem, timm.list_models(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"{KEY} ({name}) is neither a run folder nor a model of timm or torchvision{hint}")


def _outputs(cfg: ModelConfig) -> tuple[int, list[str] | None]:
    """Return the number of outputs of a published model, and their names if they are known as folder names."""
    if cfg.source == "torchvision":
        count = len(torchvision_weights(cfg.name).meta["categories"])
    else:
        known = timm.get_pretrained_cfg(cfg.name)
        count = known.num_classes if known is not None else 0
    return count, ImageNetInfo().label_names() if count == 1000 else None
