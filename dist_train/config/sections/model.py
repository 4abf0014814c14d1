"""The section `model`: backbone, head, weights, freezing."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from dist_train.config.choices import HEADS
from dist_train.config.types import FilePath, Fraction, PositiveFloat, PositiveInt, Section


def _freeze(value: Any) -> Any:
    if value in ("none", "backbone") or (isinstance(value, tuple) and value and all(isinstance(p, str) for p in value)):
        return value
    raise ValueError(
        f"{value!r} must be none, backbone, or a list of patterns such as [conv1, 'layer1.*', 'type:Conv2d', 'all_but_last:2']"
    )


_EPOCHS: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": "^[1-9][0-9]*$"},
    "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
}


def _unfreeze(value: Any) -> Any:
    """Return epoch -> patterns; JSON, in which checkpoints keep the config, has no numbers as keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} must map epochs to patterns, such as {{2: layer4, 4: [layer3, layer2], 6: all}}")
    found = {}
    for epoch, patterns in value.items():
        number = int(epoch) if str(epoch).isdecimal() else 0
        listed = (patterns,) if isinstance(patterns, str) else patterns
        named = isinstance(listed, tuple) and all(isinstance(pattern, str) for pattern in listed)
        if number < 1 or number in found or not named or not listed:
            raise ValueError(
                f"{epoch!r}: {patterns!r} must be a number of epochs, at least 1, and a pattern or a list of patterns, such as "
                "2: layer4"
            )
        found[number] = listed
    return found


class CompileConfig(Section):
    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default"
    """torch.compile's mode. reduce-overhead: CUDA graphs. max-autotune: also measures which kernels are fastest."""
    blocks: bool = False
    """Compile each of the blocks that the model repeats (`nn.Sequential`, `nn.ModuleList`) instead of the whole model."""

    @property
    def cuda_graphs(self) -> bool:
        """Return whether torch records CUDA graphs in this mode."""
        return self.mode in ("reduce-overhead", "max-autotune")


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
    """Name in that library (`--list-models` prints them), `hf-hub:OWNER/NAME` or `local-dir:FOLDER` in timm's format, or
    `package.module:callable` for your own model."""
    pretrained: bool = True
    """Load the published weights of the model, from the local cache or over the network."""
    weights: FilePath | None = None
    """A .safetensors or .pth file to start from; replaces `pretrained`."""
    options: dict[str, Any] = {}
    """More keyword arguments of the model's constructor, such as `{global_pool: avg}`, or of your own callable."""
    drop_path: Fraction = 0.0
    """Stochastic depth rate, passed to the constructor of the model."""
    head: HeadConfig = HeadConfig.usual()
    """The last layers, which map features to outputs."""
    freeze: Annotated[Literal["none", "backbone"] | tuple[str, ...], BeforeValidator(_freeze)] = "none"
    """none, backbone, or patterns: names and globs of parameters or modules, `type:CLASS`, `all_but_last:N`."""
    unfreeze: Annotated[dict[PositiveInt, tuple[str, ...]], BeforeValidator(_unfreeze), WithJsonSchema(_EPOCHS)] = {}
    """What of the frozen layers begins to train, after how many epochs: `{2: layer4, 4: [layer3, layer2], 6: all}`."""
    lora: LoraConfig | None = None
    """Freeze the backbone and train small matrices beside its layers, by peft; `{}` turns it on with the defaults."""
    sync_bn: bool = False
    """Compute BatchNorm statistics over the images of all ranks instead of each rank alone; on GPUs and CPUs."""
    compile: bool | CompileConfig = False
    """Use torch.compile: a slow start, then faster steps. `{mode: max-autotune}` turns it on with options."""
    channels_last: bool = False
    """Store images and weights channels last (NHWC): faster convolutions on GPUs."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @property
    def compiler(self) -> CompileConfig | None:
        """The options of ``compile``; None if it is off."""
        return CompileConfig() if self.compile is True else self.compile or None

    @property
    def cuda_graphs(self) -> bool:
        return self.compiler is not None and self.compiler.cuda_graphs

    @model_validator(mode="after")
    def _something_to_unfreeze(self) -> "ModelConfig":
        if self.unfreeze and self.freeze == "none":
            raise ValueError("unfreeze needs something frozen: set `model.freeze`, or remove it")
        return self

    @model_validator(mode="after")
    def _lora_freezes_itself(self) -> "ModelConfig":
        if self.lora is not None and self.freeze != "none":
            raise ValueError("lora freezes all but its adapters and the head: remove `model.freeze`")
        return self
