"""The section `optim`: optimizer, rates, weight decay."""

from typing import Annotated, Any

from pydantic import Field

from dist_train.config.types import Fraction, NonNegativeFloat, PositiveFloat, Section


class OptimConfig(Section):
    name: str = "sgd"
    """sgd, adam, adamw or rmsprop (torch's), or any other name that timm's create_optimizer_v2 knows."""
    lr: PositiveFloat
    """Peak learning rate of the schedule; `layer_decay` and `head_lr_scale` scale it for parts of the model."""
    options: dict[str, Any] = {}
    """More keyword arguments of the optimizer's constructor, such as `{caution: true}`."""
    momentum: Fraction = 0.9
    """Momentum of sgd, rmsprop, and the timm optimizers that have one."""
    nesterov: bool = False
    """Nesterov momentum, for sgd."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay rates of the moments, for adam, adamw, and the timm optimizers that have two."""
    eps: PositiveFloat | None = None
    """Small number in the denominator of the update; the optimizer's own if not given."""
    alpha: Fraction = 0.99
    """Decay rate of the mean of squared gradients, for rmsprop."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay: L2, or decoupled with adamw and the timm optimizers that decouple it."""
    decay_norm_and_bias: bool = True
    """Apply weight decay to norm layers and biases too, as torch's optimizers do."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate from each layer to the layer below it, as in BEiT; 1 turns it off."""
    head_lr_scale: PositiveFloat = 1.0
    """Factor on the learning rate of the head."""
