"""The sections that decide the model and how it learns: model, loss, optim, schedule."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from dist_train.config_types import (
    FilePath,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
)


def _freeze(value: Any) -> Any:
    if value in ("none", "backbone") or (isinstance(value, tuple) and value and all(isinstance(p, str) for p in value)):
        return value
    raise ValueError(
        f"{value!r} must be none, backbone, or a list of patterns such as [conv1, 'layer1.*', 'type:Conv2d', 'all_but_last:2']"
    )


class HeadConfig(Section):
    name: Literal["linear", "mlp"] = "linear"
    """linear: one layer. mlp: hidden layers in front of it."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512,)
    """Widths of the hidden layers of an mlp."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """What follows each hidden layer of an mlp."""
    dropout: Fraction = 0.0
    """In front of the last layer, and of an mlp also after each hidden one."""


class ModelConfig(Section):
    source: Literal["timm", "torchvision"] = "timm"
    """Whose models `name` means."""
    name: str
    """A name that the source knows (--list-models), or `package.module:callable` for a model of your own."""
    pretrained: bool = True
    """Load the published weights of the model (from the hub's cache, or over the network)."""
    weights: FilePath | None = None
    """A .safetensors or .pth file to start from; wins over `pretrained`."""
    drop_path: Fraction = 0.0
    """Stochastic depth rate, handed to the model's own constructor."""
    head: HeadConfig = HeadConfig()
    freeze: Annotated[Literal["none", "backbone"] | tuple[str, ...], BeforeValidator(_freeze)] = "none"
    """none, backbone, or patterns: names and globs of parameters or modules, `type:CLASS`, `all_but_last:N`."""
    unfreeze_epoch: PositiveInt | None = None
    """From the end of this many epochs on, everything trains."""
    sync_bn: bool = False
    """BatchNorm over the images of all ranks instead of each rank's own; on GPUs and on CPUs."""
    compile: bool = False
    """torch.compile: a slow start, then faster steps."""
    channels_last: bool = False
    """Memory layout that convolutions are faster with."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @model_validator(mode="after")
    def _something_to_unfreeze(self) -> "ModelConfig":
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise ValueError(f"unfreeze_epoch ({self.unfreeze_epoch}) needs something frozen: set `model.freeze`")
        return self


LOSSES = ("cross_entropy", "bce", "focal", "binary_focal", "soft_f1", "mse", "l1", "huber")


def _loss(value: str) -> str:
    if value not in LOSSES and ":" not in value:
        near = difflib.get_close_matches(value, LOSSES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{value!r} must be one of {', '.join(LOSSES)}, or package.module:Class{hint}")
    return value


class LossConfig(Section):
    name: Annotated[str, AfterValidator(_loss)] = "cross_entropy"
    """cross_entropy, bce, focal, binary_focal, soft_f1, mse, l1, huber, or `package.module:Class` for your own."""
    options: dict[str, Any] = {}
    """Arguments of your own loss."""
    label_smoothing: Fraction = 0.0
    """Of class labels, for cross_entropy, bce, focal and binary_focal."""
    class_weights: dict[str, NonNegativeFloat] = {}
    """Factor on the loss of a class, by its name; the mean is still over samples. 1 for classes not given."""
    gamma: NonNegativeFloat = 2.0
    """How much the focal losses play down what is already right."""
    delta: PositiveFloat = 1.0
    """Where huber turns from squares to absolute values."""
    aux_weight: NonNegativeFloat = 0.3
    """Factor on the loss of each auxiliary head (GoogLeNet, Inception)."""
    l1: NonNegativeFloat = 0.0
    """Factor on the sum of absolute values of all trained parameters."""


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


class ScheduleConfig(Section):
    name: Literal["cosine", "constant", "linear", "step", "multistep", "onecycle", "exponential"] = "cosine"
    """How the learning rate goes on after the warm-up, step by step."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs, or a part of one, in which the rate rises to `optim.lr`."""
    min_lr: NonNegativeFloat = 0.0
    """No schedule falls below it after the warm-up."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor at each step of step and multistep, and for each epoch of exponential."""
    step_epochs: PositiveFloat = 30.0
    """Epochs between two steps of step."""
    milestones: tuple[PositiveFloat, ...] = ()
    """Epochs at which multistep steps."""
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the run in which onecycle rises."""

    @model_validator(mode="after")
    def _consistent(self) -> "ScheduleConfig":
        if self.name == "multistep" and not self.milestones:
            raise ValueError("milestones is empty: multistep needs the epochs at which to step, such as [30, 60]")
        if self.name == "onecycle" and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must be 0: onecycle warms up itself, see pct_start"
            )
        return self
