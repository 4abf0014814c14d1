"""The section `optim`: optimizer, rates, weight decay."""

from typing import Annotated

from pydantic import Field

from dist_train.config.types import Fraction, NonNegativeFloat, PositiveFloat, Section


class OptimConfig(Section):
    name: str = "sgd"
    """sgd, adam, adamw or rmsprop (torch's), or any other name that timm's create_optimizer_v2 knows."""
    lr: PositiveFloat
    """The schedule's highest learning rate; layers may have a share of it."""
    momentum: Fraction = 0.9
    """For sgd, rmsprop, and those of timm that have one."""
    nesterov: bool = False
    """For sgd."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """For adam, adamw, and those of timm that have two."""
    eps: PositiveFloat | None = None
    """The optimizer's own if not given."""
    alpha: Fraction = 0.99
    """Smoothing of rmsprop's squares."""
    weight_decay: NonNegativeFloat = 0.0
    """L2; decoupled with adamw, and where timm's optimizer decouples it."""
    decay_norm_and_bias: bool = True
    """Apply weight decay to norms and biases as well, as torch's optimizers do."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate factor from each layer to the one below it (BEiT); 1 is off."""
    head_lr_scale: PositiveFloat = 1.0
    """Factor on the learning rate of the head."""
