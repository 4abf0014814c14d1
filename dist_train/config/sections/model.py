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
    """Dropout rate before the last layer, and in an mlp also after each hidden layer."""
    init: Literal["zeros", "timm"] = "zeros"
    """Initial weights of the last layer of a new head: zeros, or those of the model's library (timm). Your own model keeps its own."""


class ModelConfig(Section):
    source: Literal["timm", "torchvision"] = "timm"
    """Library that provides the model `name`."""
    name: str
    """Name in that library (`--list-models` prints them), or `package.module:callable` for your own model."""
    pretrained: bool = True
    """Load the published weights of the model, from the local cache or over the network."""
    weights: FilePath | None = None
    """A .safetensors or .pth file to start from; replaces `pretrained`."""
    options: dict[str, Any] = {}
    """More keyword arguments of the model's constructor, such as `{global_pool: avg}`, or of your own callable."""
    drop_path: Fraction = 0.0
    """Stochastic depth rate, passed to the constructor of the model."""
    head: HeadConfig = HeadConfig()
    """The last layers, which map features to outputs."""
    freeze: Annotated[Literal["none", "backbone"] | tuple[str, ...], BeforeValidator(_freeze)] = "none"
    """none, backbone, or patterns: names and globs of parameters or modules, `type:CLASS`, `all_but_last:N`."""
    unfreeze_epoch: PositiveInt | None = None
    """After this many epochs, all layers train."""
    sync_bn: bool = False
    """Compute BatchNorm statistics over the images of all ranks instead of each rank alone; on GPUs and CPUs."""
    compile: bool = False
    """Use torch.compile: a slow start, then faster steps."""
    channels_last: bool = False
    """Store images and weights channels last (NHWC): faster convolutions on GPUs."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @model_validator(mode="after")
    def _something_to_unfreeze(self) -> "ModelConfig":
        if self.unfreeze_epoch is not None and self.freeze == "none":
            raise ValueError(f"unfreeze_epoch ({self.unfreeze_epoch}) needs something frozen: set `model.freeze`")
        return self
