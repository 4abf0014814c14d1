"""The model: a backbone with its head, and the weights it starts from."""

from pathlib import Path

import torch

from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError
from dist_train.model import pretrained
from dist_train.model.backbones import GivenModel, create
from dist_train.model.freeze import freeze
from dist_train.model.heads import head_parameters, set_head
from dist_train.model.initial_weights import load_initial
from dist_train.model.network import Network
from dist_train.model.weights import load_weights


def build_model(
    cfg: ModelConfig, outputs: int, image_size: int | None, load: bool = True, given: GivenModel | None = None
) -> Network:
    """Build the model and freeze what does not train; with its initial weights unless ``load`` is false.

    A checkpoint of the run wins over everything, and then ``load`` is false. Otherwise weights come from
    ``model.weights`` if given, else from ``model.pretrained``, else they are random.

    Args:
        outputs: width of the head: classes, labels or regression targets.
        image_size: side of the input in pixels; the model's own if None.
        given: a model given in code, in place of ``model.name``; it has its weights already.

    Raises:
        ConfigError: no such model, or it refuses an option, or the weights are missing or do not fit.
    """
    wants_published = load and cfg.pretrained and cfg.weights is None and given is None
    path, source = pretrained.obtain(cfg) if wants_published else (None, None)
    overlay = None
    if path and source and cfg.source == "timm":
        overlay = pretrained.timm_overlay(path, source)
    try:
        backbone = create(cfg, outputs, image_size, overlay, given)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"`model.name` ({cfg.name}) could not be built{f' with the weights in {path}' if path else ''}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    module = backbone.module
    set_head(module, backbone.heads, cfg.head, backbone.new_head)
    head = head_parameters(module, backbone.heads)
    if path and not overlay:
        load_initial(module, load_weights(path), head, str(path))
    elif load and cfg.weights is not None:
        load_initial(module, load_weights(Path(cfg.weights)), head, cfg.weights)
    if cfg.channels_last:
        module = module.to(memory_format=torch.channels_last)
    frozen = freeze(module, cfg, head)
    return Network(module, head, frozen, backbone.image_size, backbone.mean, backbone.std, backbone.crop_pct)
