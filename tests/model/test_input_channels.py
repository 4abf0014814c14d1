"""The first layer of a model and the channels of its images."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import adapt_input_conv
from torch import nn

from dist_train.checkpoint.format import save_weights
from dist_train.config import parse_config
from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError
from dist_train.inference.config_check import check
from dist_train.model.build import build_model
from dist_train.model.input_channels import of_channels, refuse_other_channels, replace_first_layer
from dist_train.model.network import statistics
from tests.support.runs import changed


def grey(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def broken(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, num_classes))


def test_it_says_which_channels_there_are(tree: dict[str, Any]) -> None:
    words = r"`model.name` \(.*:grey\) expects images with 1 channel\(s\), but `data.channels` is 3: set it to 1, or give the"
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
        refuse_other_channels("a", caught.value, 3)
    refuse_other_channels("a", RuntimeError("something else"), 3)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize(
    ("source", "name", "first"), [("timm", "test_resnet", "conv1.0"), ("torchvision", "resnet18", "conv1")]
)
def test_the_first_convolution_takes_the_channels(
    source: Any, name: str, first: str, channels: int, tmp_path: Path
) -> None:
    """Weights of a file are adapted as timm adapts published ones."""
    weights = build_model(ModelConfig(source=source, name=name, pretrained=False), 3, 64).module.state_dict()
    save_weights(tmp_path / "w.safetensors", weights)
    cfg = ModelConfig(source=source, name=name, weights=str(tmp_path / "w.safetensors"))
    network = build_model(cfg, 3, 64, channels=channels)
    layer = network.module.get_submodule(first)
    assert isinstance(layer, nn.Conv2d)
    assert torch.equal(layer.weight, adapt_input_conv(channels, weights[f"{first}.weight"]))
    assert network.module.eval()(torch.zeros(network.blank_shape(2))).shape == (2, 3)
    assert network.blank_shape(2) == (2, channels, 64, 64)


def test_timms_transformers_take_the_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rgb = timm.create_model("test_vit", num_classes=3)
    save_weights(tmp_path / "w.safetensors", rgb.state_dict())
    cfg = ModelConfig(name="test_vit", weights=str(tmp_path / "w.safetensors"))
    found = build_model(cfg, 3, (32, 64), channels=5).module.state_dict()["patch_embed.proj.weight"]
    assert torch.equal(found, adapt_input_conv(5, rgb.state_dict()["patch_embed.proj.weight"]))


def test_a_layer_that_cannot_be_replaced() -> None:
    for model in (grey(3), nn.Sequential(nn.Flatten(), nn.Linear(3, 3))):
        with pytest.raises(ConfigError, match=r"`data.channels` \(4\): a has no first convolution of three channels"):
            replace_first_layer(model, "a", 4)


def test_the_mean_of_grey_is_the_average_and_of_others_unknown(tree: dict[str, Any]) -> None:
    assert of_channels((0.1, 0.2, 0.6), 1) == pytest.approx((0.3,))
    assert of_channels((0.1, 0.2, 0.6), 3) == (0.1, 0.2, 0.6)
    network = build_model(ModelConfig(name="test_vit", pretrained=False), 3, 32, channels=4)
    with pytest.raises(
        ConfigError, match=r"`data.std` is missing: no model is published with those of 4 channels; `dist-train"
    ):
        statistics(parse_config(changed(tree, data__channels=4, data__mean=[0.5] * 4)).data, network)
