"""Patterns name parameters by name, by module, by glob and by type."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from dist_train.model.naming.patterns import named_by, nothing_named


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.resnet18()  # type: ignore[no-any-return]


def test_names_modules_and_globs(resnet: nn.Module) -> None:
    assert named_by(resnet, "conv1") == {"conv1.weight"}
    assert named_by(resnet, "layer1.0.bn?.bias") == {"layer1.0.bn1.bias", "layer1.0.bn2.bias"}
    assert named_by(resnet, "layer1") == named_by(resnet, "layer1.*")
    assert len(named_by(resnet, "*")) == len(list(resnet.parameters()))
    assert named_by(resnet, "layer9") == set()


def test_types_and_their_subclasses(resnet: nn.Module) -> None:
    assert named_by(resnet, "type:Conv2d") == {name for name, p in resnet.named_parameters() if p.ndim == 4}
    timms = timm.create_model("test_efficientnet")  # its norms are subclasses of BatchNorm2d
    assert {timms.get_parameter(name).ndim for name in named_by(timms, "type:BatchNorm2d")} == {1}


def test_an_error_names_what_is_near(resnet: nn.Module) -> None:
    assert str(nothing_named(resnet, "model.freeze", "layer9")) == (
        "`model.freeze` (layer9) matches nothing in this model, which has layer4, layer3, layer2, ..."
    )
    assert "which has Conv2d, ..." in str(nothing_named(resnet, "model.freeze", "type:Conv3d"))
