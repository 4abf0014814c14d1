"""Every kind of head on every kind of classifier layer."""

import pytest
import torch
from torch import nn

from dist_train.config.sections.model import HeadConfig, ModelConfig
from dist_train.errors import ConfigError
from dist_train.model.build import build_model
from dist_train.model.heads import head_parameters, set_head
from dist_train.model.layers import last_layer


def plain(width: int = 8, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


@pytest.mark.parametrize(
    ("source", "name", "size", "paths"),
    [
        ("timm", "test_vit", 32, {"head"}),
        ("timm", "test_resnet", 32, {"fc"}),
        ("timm", "resnetv2_18", 32, {"head.fc"}),  # a 1 x 1 convolution
        ("timm", "deit_tiny_distilled_patch16_224", 32, {"head", "head_dist"}),
        ("timm", "levit_128s", 224, {"head.linear", "head_dist.linear"}),
        ("torchvision", "resnet18", 32, {"fc"}),
        ("torchvision", "squeezenet1_1", 64, {"classifier.1"}),  # a 1 x 1 convolution
        ("torchvision", "mobilenet_v3_small", 32, {"classifier.3"}),
        ("torchvision", "googlenet", 32, {"fc", "aux1.fc2", "aux2.fc2"}),
    ],
)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_head_is_found_and_replaced(source: str, name: str, size: int, paths: set[str], head: str) -> None:
    cfg = ModelConfig(
        source=source,  # type: ignore[arg-type]
        name=name,
        pretrained=False,
        freeze="backbone",
        head=HeadConfig(name=head, hidden=(16, 12), dropout=0.1),  # type: ignore[arg-type]
    )
    with torch.device("meta"):
        network = build_model(cfg, 5, size)
        out = network.module.eval()(torch.zeros(2, 3, size, size))
    assert out.shape == (2, 5)
    trains = {key for key, p in network.module.named_parameters() if p.requires_grad}
    assert trains == network.head
    own = {".".join(key.split(".")[: path.count(".") + 1]) for key in trains for path in paths if key.startswith(path)}
    assert own == paths
    layers = len(paths) * (3 if head == "mlp" else 1)
    assert sum(key.endswith("weight") for key in trains) == layers


def test_an_mlp_is_layers_activation_dropout() -> None:
    module = plain()
    set_head(module, ("3",), HeadConfig(name="mlp", hidden=(16, 12), activation="tanh", dropout=0.5))
    kinds = [type(part).__name__ for part in module[3]]
    assert kinds == ["Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert [layer.out_features for layer in module[3] if isinstance(layer, nn.Linear)] == [16, 12, 3]
    assert module[3][2].p == 0.5


def test_a_convolution_becomes_an_mlp_of_convolutions() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    set_head(module, (last_layer(module, 4),), HeadConfig(name="mlp", hidden=(6,)))
    assert [type(part).__name__ for part in module[1]] == ["Conv2d", "GELU", "Dropout", "Conv2d"]
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_dropout_keeps_the_layer_its_weights_and_its_names() -> None:
    module = plain()
    names, weight, x = list(module.state_dict()), module[3].weight, torch.randn(4, 3, 8, 8)
    before = module.eval()(x)
    set_head(module, ("3",), HeadConfig(dropout=0.5))
    assert list(module.state_dict()) == names
    assert module[3].weight is weight
    assert torch.equal(module.eval()(x), before), "no dropout in eval mode"
    assert not torch.equal(module.train()(x), before), "dropout in train mode"
    assert "dropout=0.5" in repr(module[3])


def test_regression_has_one_output_for_each_target() -> None:
    network = build_model(ModelConfig(name="test_resnet", pretrained=False, head=HeadConfig(name="mlp")), 2, 32)
    assert network.module(torch.zeros(3, 3, 32, 32)).shape == (3, 2)


def test_head_parameters_are_those_at_the_paths() -> None:
    assert head_parameters(plain(), ("3",)) == {"3.weight", "3.bias"}


def test_a_head_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="the head at 0 is a Conv2d; only Linear and 1 x 1 Conv2d are supported"):
        set_head(plain(), ("0",), HeadConfig())
