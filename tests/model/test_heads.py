"""Every kind of head on every kind of classifier layer."""

import math
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from dist_train.checkpoint.format import save_weights
from dist_train.config.sections.model import HeadConfig, ModelConfig
from dist_train.errors import ConfigError
from dist_train.model.backbones import create
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
    set_head(module, ("3",), HeadConfig(dropout=0.5, init="timm"))
    assert list(module.state_dict()) == names
    assert module[3].weight is weight
    assert torch.equal(module.eval()(x), before), "no dropout in eval mode"
    assert not torch.equal(module.train()(x), before), "dropout in train mode"
    assert "dropout=0.5" in repr(module[3])


@pytest.mark.parametrize(
    ("source", "name", "size"),
    [
        ("timm", "test_efficientnet", 32),
        ("timm", "resnetv2_18", 32),  # a 1 x 1 convolution
        ("timm", "deit_tiny_distilled_patch16_224", 32),  # two heads
        ("torchvision", "googlenet", 64),  # auxiliary heads
    ],
)
@pytest.mark.parametrize("head", [HeadConfig(), HeadConfig(dropout=0.2), HeadConfig(name="mlp", hidden=(6,))])
def test_a_new_head_starts_at_zero(source: str, name: str, size: int, head: HeadConfig) -> None:
    """So each class gets the same score, and the first loss is ln K."""
    cfg = ModelConfig(source=source, name=name, pretrained=False, head=head)  # type: ignore[arg-type]
    module = build_model(cfg, 5, size).module.train()
    found = module(torch.randn(2, 3, size, size))
    for outputs in found if isinstance(found, tuple) else (found,):
        assert outputs is not None
        assert torch.count_nonzero(outputs) == 0
    assert nn.functional.cross_entropy(torch.zeros(2, 5), torch.tensor([0, 3])).item() == pytest.approx(math.log(5))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_init_timm_is_the_init_of_the_library(head: str) -> None:
    def built(init: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        cfg = ModelConfig(name="test_efficientnet", pretrained=False, head=HeadConfig(name=head, init=init))  # type: ignore[arg-type]
        return build_model(cfg, 5, 32).module.state_dict()

    kept, zeroed = built("timm"), built("zeros")
    differing = {name for name in kept if not torch.equal(kept[name], zeroed[name])}
    last = "classifier" if head == "linear" else "classifier.3"
    assert differing <= {f"{last}.weight", f"{last}.bias"}
    assert f"{last}.weight" in differing
    if head == "linear":
        torch.manual_seed(3)
        expected = timm.create_model("test_efficientnet", num_classes=5).state_dict()
        assert torch.equal(kept["classifier.weight"], expected["classifier.weight"])


def own(num_classes: int) -> nn.Module:
    return plain(outputs=num_classes)


def test_a_model_of_your_own_keeps_its_init_but_not_in_new_layers() -> None:
    name = "tests.model.test_heads:own"
    linear = build_model(ModelConfig(name=name, pretrained=False), 3, 32).module
    mlp = build_model(ModelConfig(name=name, pretrained=False, head=HeadConfig(name="mlp")), 3, 32).module
    assert torch.count_nonzero(linear.get_parameter("3.weight"))
    assert not torch.count_nonzero(mlp.get_parameter("3.3.weight"))
    assert torch.count_nonzero(mlp.get_parameter("3.0.weight"))


@pytest.mark.parametrize(("outputs", "kept"), [(1000, True), (5, False)])
def test_a_published_head_with_as_many_outputs_is_kept(tmp_path: Path, outputs: int, kept: bool) -> None:
    published = timm.create_model("test_vit").state_dict()
    save_weights(tmp_path / "w.safetensors", published)
    overlay = {"file": str(tmp_path / "w.safetensors"), "custom_load": False, "source": ""}
    backbone = create(ModelConfig(name="test_vit"), outputs, None, overlay)
    assert backbone.new_head != kept
    set_head(backbone.module, backbone.heads, HeadConfig(), backbone.new_head)
    weight = backbone.module.get_parameter("head.weight")
    assert torch.equal(weight, published["head.weight"]) if kept else not torch.count_nonzero(weight)


def test_a_head_in_a_file_of_weights_is_kept(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit", num_classes=5).state_dict()
    save_weights(tmp_path / "w.safetensors", weights)
    cfg = ModelConfig(name="test_vit", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(build_model(cfg, 5, None).module.get_parameter("head.weight"), weights["head.weight"])


def test_regression_has_one_output_for_each_target() -> None:
    network = build_model(ModelConfig(name="test_resnet", pretrained=False, head=HeadConfig(name="mlp")), 2, 32)
    assert network.module(torch.zeros(3, 3, 32, 32)).shape == (3, 2)


def test_head_parameters_are_those_at_the_paths() -> None:
    assert head_parameters(plain(), ("3",)) == {"3.weight", "3.bias"}


def test_a_head_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="the head at 0 is a Conv2d; only Linear and 1 x 1 Conv2d are supported"):
        set_head(plain(), ("0",), HeadConfig())
