"""The last layer of a model that does not name its classifier."""

import pytest
from torch import nn

from dist_train.errors import ConfigError
from dist_train.model.layers import last_layer


def test_it_is_the_last_linear_or_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 5), nn.Dropout())
    assert last_layer(model, 5) == "2"
    assert last_layer(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Conv2d(4, 7, 1)), 7) == "2"


def test_another_width_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"last layer \(0\) has 3 outputs, but the data needs 4; give the model a get_classifier"
    ):
        last_layer(nn.Sequential(nn.Linear(2, 3)), 4)
    with pytest.raises(ConfigError, match="no Linear or Conv2d layer"):
        last_layer(nn.Sequential(nn.Flatten()), 4)
