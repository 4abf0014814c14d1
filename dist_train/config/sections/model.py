"""The section `model`: backbone, head, weights, freezing."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dist_train.config.choices import HEADS
from dist_train.config.types import FilePath, Fraction, PositiveFloat, PositiveInt, Section


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


class LoraConfig(Section):
    rank: PositiveInt = 8
    """Rank of the two matrices of an adapter."""
    alpha: PositiveFloat = 16.0
    """The adapter's output is multiplied by alpha / rank."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names and globs of Linear and Conv2d layers, whole or their end, such as `[qkv, "blocks.1?.mlp.*"]`. If not given:
    the Linear layers of attention and MLP in vision transformers."""
    dropout: Fraction = 0.0
    """Dropout rate on the input of the adapters."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Biases that train too: none, all of the model, or those of the layers with an adapter."""
    base_dtype: Literal["fp32", "bf16"] = "fp32"
    """bf16: store the frozen weights in half the memory; with `train.precision` amp_bf16, which rounds them anyway."""


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
    lora: LoraConfig | None = None
    """Freeze the backbone and train small matrices beside its layers, by peft; `{}` turns it on with the defaults."""
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

    @model_validator(mode="after")
    def _lora_freezes_itself(self) -> "ModelConfig":
        if self.lora is not None and self.freeze != "none":
            raise ValueError("lora freezes all but its adapters and the head: remove `model.freeze`")
        return self
