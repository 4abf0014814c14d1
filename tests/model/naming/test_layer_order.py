"""The layers of a model, from the input to the output; tests/model/test_freeze.py counts its blocks."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from dist_train.model.naming.layer_order import decay_order, layers


@pytest.mark.parametrize(
    "model",
    [
        lambda: timm.create_model("test_vit"),
        lambda: torchvision.models.resnet18(),
        lambda: torchvision.models.vit_b_16(),
        lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)),
    ],
)
def test_every_parameter_is_in_one_layer(model: object) -> None:
    with torch.device("meta"):
        module = model()  # type: ignore[operator]
    found = [name for names in layers(module) for name in names]
    assert sorted(found) == sorted(name for name, _ in module.named_parameters())
    assert layers(module)[-1][-1] == found[-1] == [name for name, _ in module.named_parameters()][-1]


def test_in_the_order_of_decay_the_head_is_one_layer_and_no_layer_is_empty() -> None:
    module = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    head = frozenset({"4.weight", "4.bias", "5.weight", "5.bias"})
    assert decay_order(module, head) == [
        ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"],
        ["4.weight", "4.bias", "5.weight", "5.bias"],
    ]
