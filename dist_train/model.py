"""The model: a timm backbone with a new head, and the weights it starts from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import timm.data
import torch
from torch import Tensor, nn

from dist_train.config import ModelConfig
from dist_train.errors import ConfigError
from dist_train.tensor_files import load_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A model and what the data must look like for it.

    Attributes:
        module: maps images [B, 3, S, S] to logits [B, K].
        head: names of the parameters of the head.
        image_size: S in pixels.
        mean, std: per channel, of images in [0, 1].
        crop_pct: share of the resized image that evaluation's central crop keeps.
    """

    module: nn.Module
    head: frozenset[str]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float


def build_model(cfg: ModelConfig, num_classes: int, image_size: int | None, load: bool = True) -> Network:
    """Build the model, with its initial weights unless ``load`` is false.

    Weights come from ``model.weights`` if given, else from ``model.pretrained``, else they are random.

    Args:
        num_classes: outputs of the head.
        image_size: side of the input in pixels; the model's own if None.

    Raises:
        ConfigError: no such model, or it refuses an option, or the weights do not fit.
    """
    module = _create(cfg, num_classes, image_size, pretrained=load and cfg.pretrained and cfg.weights is None)
    head = _head_parameters(module)
    if load and cfg.weights is not None:
        load_initial(module, load_weights(Path(cfg.weights)), head, cfg.weights)
    if cfg.channels_last:
        module = module.to(memory_format=torch.channels_last)
    data = timm.data.resolve_model_data_config(module)
    return Network(
        module=module,
        head=head,
        image_size=image_size or data["input_size"][-1],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        crop_pct=data["crop_pct"],
    )


def _create(cfg: ModelConfig, num_classes: int, image_size: int | None, pretrained: bool) -> nn.Module:
    if not timm.is_model(cfg.name):
        near = timm.list_models(f"*{cfg.name.split('.')[0][:8]}*")[:5]
        hint = f"; close to it: {', '.join(near)}" if near else ""
        raise ConfigError(f"`model.name` ({cfg.name}) is not a timm {timm.__version__} model{hint}")
    options: dict[str, float | int] = {"num_classes": num_classes, "drop_rate": cfg.head.dropout}
    if cfg.drop_path:
        options["drop_path_rate"] = cfg.drop_path
    published = timm.get_pretrained_cfg(cfg.name)
    if image_size is not None and published is not None and published.fixed_input_size:
        options["img_size"] = image_size
    try:
        return timm.create_model(cfg.name, pretrained=pretrained, **options)  # type: ignore[no-any-return]
    except TypeError as error:
        raise ConfigError(f"`model.name` ({cfg.name}) does not take an option that the config sets: {error}") from None
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors; timm's own are RuntimeErrors
        raise ConfigError(
            f"`model.pretrained`: the weights of {cfg.name} could not be loaded: {str(error).splitlines()[0]} "
            "Without network give `model.weights=FILE`, or `model.pretrained=false` for random weights."
        ) from None


def _head_parameters(module: nn.Module) -> frozenset[str]:
    classifier = module.get_classifier()  # type: ignore[operator]
    heads = classifier if isinstance(classifier, tuple | list) else (classifier,)
    owned = {id(parameter) for head in heads for parameter in head.parameters()}
    return frozenset(name for name, parameter in module.named_parameters() if id(parameter) in owned)


def load_initial(module: nn.Module, weights: Mapping[str, Tensor], head: frozenset[str], source: str) -> None:
    """Copy ``weights`` into ``module``; a head of another shape is left out, anything else that differs is told.

    Raises:
        ConfigError: nothing matched, or a tensor of the backbone has another shape.
    """
    own = module.state_dict()
    found = {_plain_name(name): tensor for name, tensor in weights.items()}
    misfits = [name for name in found.keys() & own.keys() if found[name].shape != own[name].shape]
    backbone = [
        f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}" for name in misfits if name not in head
    ]
    usable = {name: tensor for name, tensor in found.items() if name in own and name not in misfits}
    if backbone or not usable:
        what = (
            f"other shapes: {', '.join(sorted(backbone)[:3])}" if backbone else f"it has {', '.join(sorted(found)[:3])}"
        )
        raise ConfigError(
            f"`model.weights` ({source}) does not fit the model ({len(usable)} of {len(own)} tensors): {what}"
        )
    module.load_state_dict(usable, strict=False)
    missing, unused = sorted(own.keys() - usable.keys()), sorted(found.keys() - usable.keys())
    log.info("weights: %d of %d tensors from %s", len(usable), len(own), source)
    for title, names in (("not in the file, kept random", missing), ("in the file, not used", unused)):
        if names:
            log.info("weights: %s: %s", title, ", ".join(names))


def _plain_name(name: str) -> str:
    """A parameter's name without what DDP, Lightning or torch.compile put in front of it."""
    for prefix in ("module.", "model.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
