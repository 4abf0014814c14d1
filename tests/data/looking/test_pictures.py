"""What a model gets, as pictures."""

import pytest
import torch
from torch import nn

from dist_train.config.sections.data import DataConfig
from dist_train.data.augment.on_device import Normalise
from dist_train.data.looking.pictures import pictures
from dist_train.model.network import Network


def normalisation(channels: int, mean: float, std: float) -> Normalise:
    cfg = DataConfig(root="images", channels=channels, mean=(mean,) * channels, std=(std,) * channels)
    network = Network(nn.Identity(), frozenset(), (), (4, 6), (), (), channels=channels)
    return Normalise(cfg, network, torch.device("cpu"), channels_last=False)


@pytest.mark.parametrize(("channels", "expected"), [(1, [8, 8, 8]), (2, [8, 8, 8]), (3, [8, 9, 10]), (5, [8, 9, 10])])
def test_any_number_of_channels_becomes_rgb(channels: int, expected: list[int]) -> None:
    normalise = normalisation(channels, 0.5, 0.25)
    images_BHWC = torch.arange(8, 8 + channels, dtype=torch.uint8).expand(1, 4, 6, channels)
    (picture,) = pictures(normalise(images_BHWC), normalise)
    assert (picture.shape, picture[3, 5].tolist()) == ((4, 6, 3), expected)


def test_values_outside_are_cut() -> None:
    normalise = normalisation(3, 0.0, 1.0)
    (picture,) = pictures(torch.tensor([-1.0, 0.6, 7.0])[None, :, None, None], normalise)
    assert picture[0, 0].tolist() == [0, 153, 255]
