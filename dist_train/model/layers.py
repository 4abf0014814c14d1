"""The layers that can be a classifier, and how to find the last one of a model."""

from torch import nn

from dist_train.errors import ConfigError

Layer = nn.Linear | nn.Conv2d


def last_layer(module: nn.Module, outputs: int) -> str:
    """Return the path of the last Linear or Conv2d, for a model without ``get_classifier``.

    Raises:
        ConfigError: there is no such layer, or it does not have ``outputs`` outputs.
    """
    layers: list[tuple[str, Layer]] = [
        (path, layer) for path, layer in module.named_modules() if isinstance(layer, Layer)
    ]
    if not layers:
        raise ConfigError("`model.name`: the model has no Linear or Conv2d layer, so no head was found")
    path, layer = layers[-1]
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if width != outputs:
        raise ConfigError(
            f"`model.name`: the model's last layer ({path}) has {width} outputs, but the data needs {outputs}; "
            "give the model a get_classifier() method that returns its last layer"
        )
    return path
