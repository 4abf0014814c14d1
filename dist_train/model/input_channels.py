"""Models of one's own that take another number of channels than the three of RGB."""

import re

from dist_train.errors import ConfigError


def refuse_other_channels(name: str, error: Exception) -> None:
    """Raise ``ConfigError`` if a model failed at RGB images because its first layer takes other channels.

    Args:
        error: what the forward pass of float32 [B, 3, S, S] raised.
    """
    match = re.search(r"to have (\d+) channels, but got 3 channels", str(error))
    if match:
        raise ConfigError(
            f"`model.name` ({name}) takes images with {match[1]} channel(s), and images are always RGB, float32 [B, 3, S, S]: "
            "give its first layer 3 channels, or convert them in its forward, such as images.mean(1, keepdim=True)"
        ) from error
