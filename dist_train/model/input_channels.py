"""User models whose first layer does not have the three channels of RGB."""

import re

from dist_train.errors import ConfigError


def refuse_other_channels(name: str, error: Exception) -> None:
    """Raise ``ConfigError`` if a model failed on RGB images because its first layer expects other channels.

    Args:
        error: the error of the forward pass with images float32 [B, 3, S, S].
    """
    match = re.search(r"to have (\d+) channels, but got 3 channels", str(error))
    if match:
        raise ConfigError(
            f"`model.name` ({name}) expects images with {match[1]} channel(s), but images are always RGB, float32 [B, 3, S, S]: "
            "give its first layer 3 channels, or convert them in its forward, such as images.mean(1, keepdim=True)"
        ) from error
