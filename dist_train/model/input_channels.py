"""Models whose first layer does not have the three channels of RGB (``data.channels``)."""

import re

from timm.models import adapt_input_conv
from torch import Tensor, nn

from dist_train.errors import ConfigError


def refuse_other_channels(name: str, error: Exception, channels: int) -> None:
    """Raise ``ConfigError`` if a model failed because its first layer expects another number of channels.

    Args:
        error: the error of the forward pass with images float32 [B, C, H, W].
        channels: C, `data.channels`.
    """
    match = re.search(rf"to have (\d+) channels, but got {channels} channels", str(error))
    if match:
        raise ConfigError(
            f"`model.name` ({name}) expects images with {match[1]} channel(s), but `data.channels` is {channels}: set it to "
            f"{match[1]}, or give the model's first layer {channels} channel(s)"
        ) from error


def replace_first_layer(module: nn.Module, name: str, channels: int) -> None:
    """Give a model of RGB images a first convolution with ``channels`` input channels, and random weights.

    Raises:
        ConfigError: its first layer is not a convolution of three channels.
    """
    path, layer = next(
        ((path, part) for path, part in module.named_modules() if isinstance(part, nn.Conv2d)), ("", None)
    )
    if layer is None or layer.in_channels != 3:
        raise ConfigError(
            f"`data.channels` ({channels}): {name} has no first convolution of three channels to replace; use a timm model"
        )
    new = nn.Conv2d(
        channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    module.set_submodule(path, new)


def of_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return the mean or the standard deviation of RGB images for grey ones: the average; empty for other channels."""
    if channels == 3:
        return values
    return (sum(values) / len(values),) if channels == 1 else ()


def with_channels(own: dict[str, Tensor], weights: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Return weights of a model of RGB images with the first convolution adapted to ``channels``, as timm does.

    One channel gets the sum of the three; of more channels each gets one of the three in turn, scaled so that the sum keeps
    its size (timm's ``adapt_input_conv``).

    Args:
        own: the tensors of the model.
    """
    for name, tensor in weights.items():
        wanted = own.get(name)
        if wanted is not None and tensor.ndim == 4 and tensor.shape[1] == 3 and wanted.shape[1] == channels != 3:
            return {**weights, name: adapt_input_conv(channels, tensor)}
    return weights
