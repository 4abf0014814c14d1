"""Test-time augmentation: which views a model sees, and what becomes of its answers."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from dist_train.config.sections.eval import TtaConfig
from dist_train.errors import ConfigError
from dist_train.evaluation.activation import activated
from dist_train.evaluation.views import Views, views, with_views

IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class Corner(nn.Module):
    """Answers by the pixel in the left upper corner."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 0]


def test_the_views_of_an_image() -> None:
    mirrored = list(views(IMAGES, TtaConfig()))
    assert [torch.equal(view, image) for view, image in zip(mirrored, (IMAGES, IMAGES.flip(-1)), strict=True)] == [
        True,
        True,
    ]
    five = list(views(IMAGES, TtaConfig(flip=False, crops=0.5)))
    assert [tuple(view.shape) for view in five] == [(2, 3, 16, 24)] * 6
    assert torch.equal(five[1], F.resize(IMAGES[..., :8, :12], [16, 24]))
    every = list(views(IMAGES, TtaConfig(crops=0.5, sizes=(8, 32))))
    assert [tuple(view.shape[-2:]) for view in every] == [(16, 24), (16, 24), (8, 12), (8, 12), (32, 48), (32, 48)] * 6


def test_probabilities_are_averaged() -> None:
    model = Views(Corner(), TtaConfig(), "classification")
    each = [activated("classification", image[:, :, 0, 0]) for image in (IMAGES, IMAGES.flip(-1))]
    assert torch.allclose(activated("classification", model(IMAGES)), (each[0] + each[1]) / 2, atol=1e-6)
    numbers = Views(Corner(), TtaConfig(), "regression")
    assert torch.allclose(numbers(IMAGES), (IMAGES[..., 0, 0] + IMAGES[..., 0, -1]) / 2)


def test_a_model_of_one_size_refuses_other_sizes() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    sample = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ConfigError, match=r"`eval\.tta\.sizes` \(48\): the model takes images of \(32, 32\) only"):
        with_views(network, TtaConfig(sizes=(48,)), "classification", sample)
    assert with_views(network, None, "classification", sample) is network
    several = with_views(
        timm.create_model("test_efficientnet").eval(), TtaConfig(sizes=(48,)), "classification", sample
    )
    assert several(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


def test_one_view_is_no_augmentation() -> None:
    with pytest.raises(ValueError, match="it asks for one view only"):
        TtaConfig(flip=False)
