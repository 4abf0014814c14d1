"""Build the model: a backbone with its head and its initial weights."""

from pathlib import Path

import torch

from dist_train.config.sections.model import ModelConfig
from dist_train.config.types import Size, height_and_width
from dist_train.errors import ConfigError
from dist_train.model import pretrained
from dist_train.model.backbones import GivenModel, create
from dist_train.model.cells import find_shapes, own_memory
from dist_train.model.freeze import freeze, stages
from dist_train.model.heads import head_parameters, set_head
from dist_train.model.initial_weights import load_initial
from dist_train.model.input_channels import of_channels
from dist_train.model.network import Network
from dist_train.model.weights import load_weights


def build_model(
    cfg: ModelConfig,
    outputs: int,
    image_size: int | Size | None,
    load: bool = True,
    given: GivenModel | None = None,
    channels: int = 3,
) -> Network:
    """Build the model, load its initial weights, and freeze the parameters that ``model.freeze`` names.

    Initial weights come from ``model.weights`` if it is set, else from ``model.pretrained``, else they are random.

    Args:
        outputs: the number of outputs of the head: classes, labels or regression targets.
        image_size: `data.image_size`, of the input in pixels; None means the model's own.
        load: load initial weights. False if a checkpoint or the weights of a run will replace them.
        given: a model passed from Python code, in place of ``model.name``; it already has its weights.
        channels: of the images, `data.channels`.

    Raises:
        ConfigError: the model is unknown or does not support an option, or the weights are missing or do not fit.
    """
    if given is None:
        pretrained.obtain_description(cfg)
    wants_published = load and cfg.pretrained and cfg.weights is None and given is None
    path, source = pretrained.obtain(cfg) if wants_published else (None, None)
    overlay = None
    if path and source and cfg.source == "timm":
        overlay = pretrained.timm_overlay(path, source)
    try:
        size = None if image_size is None else height_and_width(image_size)
        backbone = create(cfg, outputs, size, overlay, given, channels)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"`model.name` ({cfg.name}) could not be built{f' with the weights in {path}' if path else ''}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    module = backbone.module
    find_shapes(module, backbone.image_size, channels)
    own_memory(module)
    set_head(module, backbone.heads, cfg.head, backbone.new_head)
    head = head_parameters(module, backbone.heads)
    if path and not overlay:
        load_initial(module, load_weights(path), head, str(path), channels)
    elif load and cfg.weights is not None:
        load_initial(module, load_weights(Path(cfg.weights)), head, cfg.weights, channels)
    if cfg.channels_last:
        module = module.to(memory_format=torch.channels_last)
    later = stages(module, cfg, freeze(module, cfg, head))
    mean, std = (of_channels(values, channels) for values in (backbone.mean, backbone.std))
    return Network(module, head, later, backbone.image_size, mean, std, backbone.published, channels)
