"""The section `optim`: optimizer, rates, weight decay."""

import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from dist_train.config.types import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Section, ShortSection


class LrBaseConfig(ShortSection):
    main = "rate"

    rate: PositiveFloat
    """Learning rate at the reference batch."""
    batch: PositiveInt = 256
    """The reference batch."""
    scale: Literal["linear", "sqrt"] = "linear"
    """How the rate grows with `train.global_batch`; sqrt suits Adam and its kin."""

    def at(self, global_batch: int) -> float:
        """Return the learning rate at a batch."""
        ratio = global_batch / self.batch
        return self.rate * (math.sqrt(ratio) if self.scale == "sqrt" else ratio)


def with_rate(optim: Any, global_batch: Any) -> Any:
    """Return the section as plain values, with ``lr`` worked out from ``lr_base`` where only that is given.

    Values of other types stay as they are: the fields say what is wrong with them. The formula is that of timm's
    ``--lr-base``, ``--lr-base-size`` and ``--lr-base-scale``.
    """
    given = optim.get("lr_base") if isinstance(optim, dict) else None
    if given is None or optim.get("lr") is not None:
        return optim
    try:
        return {**optim, "lr": LrBaseConfig.model_validate(given).at(global_batch)}
    except (ValidationError, TypeError, ValueError, ArithmeticError):
        return {**optim, "lr": 1.0}  # the error is that of `lr_base` or of `train.global_batch`, and not of `lr`


def _rate_may_follow(schema: dict[str, Any]) -> None:
    """Let editors accept a section with `lr_base` and without `lr`."""
    schema["required"].remove("lr")
    schema["anyOf"] = [{"required": ["lr"]}, {"required": ["lr_base"]}]


class OptimConfig(Section):
    model_config = ConfigDict(json_schema_extra=_rate_may_follow)

    name: str = "sgd"
    """sgd, adam, adamw or rmsprop (torch's), or any other name that timm's create_optimizer_v2 knows."""
    lr: PositiveFloat
    """Peak learning rate of the schedule; `layer_decay`, `lr_scale` and `head_lr_scale` scale it for parts of the model."""
    lr_base: LrBaseConfig | None = None
    """Instead of `lr`: the rate for a batch of 256, from which `lr` follows by `train.global_batch`; or `{rate, batch, scale}`."""
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
    layer_decay_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Smallest factor that `layer_decay` gives a layer."""
    lr_scale: dict[str, PositiveFloat] = {}
    """Factors on the learning rate by pattern, as in `model.freeze`: `{'blocks.0': 0.1, 'type:LayerNorm': 0.5}`; they multiply."""
    head_lr_scale: PositiveFloat = 1.0
    """Factor on the learning rate of the head."""
