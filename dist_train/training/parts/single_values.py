"""BatchNorm needs at least two values per channel: one image per rank is not enough if the feature map is 1 x 1."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dist_train.config.plan import Plan
from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.training.parts.trial import TRIAL_IMAGES, trial_passes
from dist_train.training.parts.unused import plain_name


def refuse_single_values(cfg: Config, plan: Plan, module: nn.Module, images: Tensor, targets: Tensor) -> None:
    """Check that every BatchNorm gets more than one value per channel.

    Args:
        module: a ``TrainingPass`` in training mode.
        images, targets: a batch of ``TRIAL_IMAGES`` images.

    Raises:
        ConfigError: a BatchNorm would get only one value per channel.
    """
    together = plan.micro_batch * (plan.world_size if cfg.model.sync_bn else 1)
    if together > 1:
        return
    found = _values_per_channel(cfg, module, images, targets)
    layer = next((name for name, values in found.items() if values == TRIAL_IMAGES), None)
    if layer is not None:
        sync = " or set model.sync_bn=true," if plan.world_size > 1 else ""
        raise ConfigError(
            f"`train.micro_batch` ({plan.micro_batch}): the BatchNorm {layer} would get one value per channel, since its "
            f"feature map is 1 x 1 and each rank has one image at a time; use 2 or more (`train.global_batch` is "
            f"{plan.global_batch} on {plan.world_size} rank(s)),{sync} or a larger `data.image_size`"
        )


@torch.no_grad()
def _values_per_channel(cfg: Config, module: nn.Module, images: Tensor, targets: Tensor) -> dict[str, int]:
    """Return the number of values per channel, B x H x W, that each BatchNorm gets, by its name."""
    found: dict[str, int] = {}

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training:
            found[name] = inputs[0].numel() // inputs[0].shape[1]

    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(partial(note, plain_name(name))) for name, layer in layers]
    try:
        with trial_passes(cfg, images.device, module):
            module(images, targets)
    finally:
        for hook in hooks:
            hook.remove()
    return found
