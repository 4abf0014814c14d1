"""A model of one's own that takes other channels than RGB is refused with one sentence."""

from typing import Any

import pytest
import torch
from torch import nn

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.inference.preflight import check
from dist_train.model.input_channels import refuse_other_channels
from tests.support.runs import changed


def grey(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def broken(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, num_classes))


def test_it_says_which_channels_there_are(tree: dict[str, Any]) -> None:
    words = r"`model.name` \(.*:grey\) expects images with 1 channel\(s\), but images are always RGB, .* give its first layer 3"
    with pytest.raises(ConfigError, match=words):
        check(parse_config(changed(tree, model__name=f"{__name__}:grey")), 1)


def test_other_faults_of_the_model_are_its_own(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="shapes cannot be multiplied") as caught:
        check(parse_config(changed(tree, model__name=f"{__name__}:broken")), 1)
    assert "channel(s)" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
def test_it_knows_torchs_words(channels: int) -> None:
    with pytest.raises(RuntimeError) as caught:
        nn.Conv2d(channels, 4, 3)(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ConfigError, match=rf"expects images with {channels} channel"):
        refuse_other_channels("a", caught.value)
    refuse_other_channels("a", RuntimeError("something else"))
