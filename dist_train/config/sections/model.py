"""The section `model`: backbone, head, weights, freezing."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dist_train.config.choices import HEADS
from dist_train.config.types import FilePath, Fraction, PositiveInt, Section


def _freeze(value: Any) -> Any:
    if value in ("none", "backbone") or (isinstance(value, tuple) and value and all(isinstance(p, str) for p in value)):
        return value
    raise ValueError(
        f"{value!r} must be none, backbone, or a list of patterns such as [conv1, 'layer1.*', 'type:Conv2d', 'all_but_last:2']"
    )


class HeadConfig(Section):
    name: Annotated[str, HEADS] = "linear"
    """linear: one layer. mlp: hidden layers, then one layer."""
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512,)
    """Widths of the hidden layers of an mlp."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """Activation after each hidden layer of an mlp."""
    dropout: Fraction = 0.0
    """In front of the last layer, and of an mlp also after each hidden one."""
    init: Literal["zeros", "timm"] = "zeros"
    """How the last layer of a new head starts: zeros, or timm: as the model's library does. A model of your own keeps its."""


class ModelConfig(Section):
    source: Literal["timm", "torchvision"] = "timm"
    """The library that `name` is from."""
    name: str
    """A name that the source knows (--list-models), or `package.module:callable` for a model of your own."""
    pretrained: bool = True
    """Load the published weights of the model (from the hub's cache, or over the network)."""
    weights: FilePath | None = None
    """A .safetensors or .pth file to start from; wins over `pretrained`."""
    drop_path: Fraction = 0.0
    """Stochastic depth rate, handed to the model's own constructor."""
    head: HeadConfig = HeadConfig()
    """The last layers, which map features to outputs."""
    freeze: Annotated[Literal["none", "backbone"] | tuple[str, ...], BeforeValidator(_freeze)] = "none"
    """none, backbone, or patterns: names and globs of parameters or modules, `type:CLASS`, `all_but_last:N`."""
    unfreeze_epoch: PositiveInt | None = None
    """From the end of this many epochs on, everything trains."""
    sync_bn: bool = False
    """BatchNorm over the images of all ranks instead of each rank's own; on GPUs and on CPUs."""
    compile: bool = False
    """torch.compile: a slow start, then faster steps."""
    channels_last: bool = False
    """Store images and weights channels last (NHWC): faster convolutions on GPUs."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @model_validator(mode="after")
    def _something_to_unfreeze(self) -> "ModelConfig":
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise ValueError(f"unfreeze_epoch ({self.unfreeze_epoch}) needs something frozen: set `model.freeze`")
        return self
