"""The head: the last layer (or layers), which maps the features of a backbone to outputs. It is replaced in place.

A regression head is a linear or an mlp head with one output per target.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dist_train.config.choices import HEADS
from dist_train.config.sections.model import HeadConfig
from dist_train.config.user_code import function_of
from dist_train.errors import ConfigError
from dist_train.model.layers import Layer

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class DropoutLinear(nn.Linear):
    """A linear layer with dropout on its input. Its parameters have the same names as those of nn.Linear."""

    dropout = 0.0

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.dropout(input, self.dropout, self.training))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dropout={self.dropout}"


class DropoutConv2d(nn.Conv2d):
    """A convolution with dropout on its input. Its parameters have the same names as those of nn.Conv2d."""

    dropout = 0.0

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.dropout(input, self.dropout, self.training))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dropout={self.dropout}"  # type: ignore[no-untyped-call]


def set_head(module: nn.Module, paths: tuple[str, ...], cfg: HeadConfig, is_new: bool = True) -> None:
    """Replace the layers at ``paths`` by the head that ``model.head`` describes.

    Args:
        is_new: the layers there have neither weights that were trained nor an init of the user's.

    Raises:
        ConfigError: a layer is neither Linear nor a 1 x 1 Conv2d.
    """
    for path in paths:
        layer = module.get_submodule(path)
        pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride == (1, 1)
        if not isinstance(layer, nn.Linear) and not pointwise:
            raise ConfigError(
                f"`model.name`: the head at {path} is a {type(layer).__name__}; only Linear and 1 x 1 Conv2d are supported"
            )
        assert isinstance(layer, Layer)
        new = function_of(HEADS, cfg.name)(layer, cfg.dropout, **HEADS.options(cfg.name, cfg))
        if new is not layer:
            module.set_submodule(path, new)
        if cfg.init == "zeros" and (is_new or cfg.name != "linear"):
            _start_at_zero(new)


def head_parameters(module: nn.Module, paths: tuple[str, ...]) -> frozenset[str]:
    """Return the names of the parameters of the layers at ``paths``."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path in paths
        for name, _ in module.get_submodule(path).named_parameters()
    )


def _start_at_zero(head: nn.Module) -> None:
    """Have a head give zeros: the mean of standardised targets, and the same score for each class.

    The init of timm's EfficientNets makes outputs as large as 10 (benchmarks/results/head_init.md).
    """
    layers = [layer for layer in head.modules() if isinstance(layer, Layer)]
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)


def linear(layer: Layer, dropout: float) -> Layer:
    """Return ``layer`` with its weights, and with dropout on its input if ``dropout`` is not 0."""
    return _with_dropout(layer, dropout) if dropout else layer


def mlp(layer: Layer, dropout: float, *, hidden: tuple[int, ...], activation: str) -> nn.Sequential:
    """Return hidden layers, each followed by activation and dropout, and a last layer of the kind of ``layer``."""
    parts: list[nn.Module] = []
    width = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    for size in hidden:
        parts += [_layer(layer, width, size), ACTIVATIONS[activation](), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*parts, _layer(layer, width, outputs))


def _layer(like: Layer, width: int, outputs: int) -> Layer:
    where: dict[str, Any] = {"device": like.weight.device, "dtype": like.weight.dtype}
    if isinstance(like, nn.Linear):
        return nn.Linear(width, outputs, **where)
    return nn.Conv2d(width, outputs, 1, **where)


def _with_dropout(layer: Layer, dropout: float) -> Layer:
    """Return a layer with the same weights as ``layer``, and dropout on its input."""
    bias = layer.bias is not None
    new: DropoutLinear | DropoutConv2d
    if isinstance(layer, nn.Linear):
        new = DropoutLinear(layer.in_features, layer.out_features, bias, device="meta")
    else:
        new = DropoutConv2d(layer.in_channels, layer.out_channels, 1, bias=bias, device="meta")
    new.weight, new.bias = layer.weight, layer.bias
    new.dropout = dropout
    return new
