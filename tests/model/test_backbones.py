"""Models by name and of one's own: built, sized, with what their families do in their own way."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dist_train.config.sections.model import ModelConfig
from dist_train.config.types import Size
from dist_train.errors import ConfigError
from dist_train.model.backbones import list_models
from dist_train.model.build import build_model
from dist_train.model.network import Network, Published


def build(size: int | Size | None = 32, outputs: int = 3, **options: Any) -> Network:
    return build_model(ModelConfig(**{"name": "test_vit", "pretrained": False, **options}), outputs, size)


class Own(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.out = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).mean((2, 3)))  # type: ignore[no-any-return]


class HeadFirst(Own):
    """Its head is not its last layer, so that it has to say which it is."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.unused = nn.Linear(1, 1)

    def get_classifier(self) -> nn.Module:
        return self.out


def no_model(num_classes: int) -> int:
    return num_classes


def test_a_model_of_your_own() -> None:
    network = build(name="tests.model.test_backbones:Own")
    assert network.head == {"out.weight", "out.bias"}
    assert network.mean == pytest.approx((0.485, 0.456, 0.406))
    assert build(name="tests.model.test_backbones:HeadFirst").head == {"out.weight", "out.bias"}
    assert build(name="tests.model.test_backbones:Own", size=None).image_size == (224, 224)


class Wide(Own):
    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__(num_classes)
        self.out = nn.Linear(width, num_classes)


def test_options_reach_the_constructor() -> None:
    assert build(options={"global_pool": "avg"}).module.global_pool == "avg"
    assert build(source="torchvision", name="resnet18", options={"zero_init_residual": True}).module
    assert build(name="tests.model.test_backbones:Wide", options={"width": 7}).module.out.in_features == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet5O"}, r"`model.name` \(resnet5O\) is not a timm .* model; did you mean resnet50"),
        ({"name": "vit_base"}, r"did you mean vit_base_\S+ or vit_base_\S+ or vit_base_\S+\? \(`--list-models"),
        ({"source": "torchvision", "name": "resnet5"}, r"is not a torchvision model; did you mean .*--list-models"),
        (
            {"source": "torchvision", "name": "resnet18.V9"},
            r"resnet18 has no weights V9; torchvision has IMAGENET1K_V1",
        ),
        ({"name": "qwen3_vit_88m_enc"}, "is an encoder without a classifier|cannot be built"),
        ({"name": "vgg11", "drop_path": 0.1}, r"`model.drop_path` \(0.1\): vgg11 has no stochastic depth; set it to 0"),
        ({"options": {"num_classes": 5}}, r"`model.options` \(num_classes\) is not available: the data decides it"),
        ({"options": {"img_size": 5}}, r"`model.options` \(img_size\) is not available: use `data.image_size`"),
        ({"options": {"pool_siez": 5}}, r"`model.name` \(test_vit\) cannot be built with .*pool_siez=5"),
        ({"name": "resnet5O", "pretrained": True}, r"`model.name` \(resnet5O\) is not a timm .* model"),
        ({"name": "resnet50.foo"}, r"`model.name` \(resnet50.foo\) is unknown: timm .* has resnet50.*a1_in1k"),
        (
            {"name": "resnet50.foo", "pretrained": True},
            r"`model.name` \(resnet50.foo\) is unknown: timm .* has resnet50.*a1_in1k",
        ),
        ({"name": "resnet18", "source": "torchvision", "drop_path": 0.1}, "resnet18 has no stochastic depth"),
        ({"name": "test_vit", "source": "torchvision"}, "timm has it: set `model.source` to timm"),
        ({"name": "googlenet"}, "torchvision has it: set `model.source` to torchvision"),
        ({"name": "hf-hub:"}, r"`model.name` \(hf-hub:\): write hf-hub:OWNER/NAME"),
        ({"name": ".relative:Own"}, r"`model.name` \(.relative:Own\) must be package.module:name"),
        ({"name": "tests.model.test_backbones:"}, "must be package.module:name"),
        ({"name": "test_vit", "grad_checkpointing": True, "source": "torchvision"}, "not a torchvision model"),
        (
            {"source": "torchvision", "name": "resnet18", "grad_checkpointing": True},
            r"`model.grad_checkpointing` \(true\): resnet18 has no gradient checkpointing; set it to false",
        ),
        ({"name": "tests.model.test_backbones:no_model"}, "must return a torch.nn.Module, but returned int"),
        ({"name": "tests.model.test_backbones:Missing"}, "tests.model.test_backbones has no Missing"),
        ({"name": "tests.model.test_backbones:Own", "drop_path": 0.1}, "which is your own code; set model.drop_path=0"),
        (
            {"name": "tests.model.test_backbones:Own", "pretrained": True},
            "is your own model and has no published weights",
        ),
        (
            {"weights": "missing.safetensors"},
            "the weights file missing.safetensors does not exist; check `model.weights`",
        ),
    ],
)
def test_a_model_that_cannot_be_built_is_an_error(options: dict[str, Any], words: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=words):
        build(**options)


@pytest.mark.parametrize(
    ("source", "name", "size"),
    [
        ("timm", "test_vit", 48),
        ("timm", "swin_tiny_patch4_window7_224", 192),
        ("timm", "test_resnet", 40),
        ("torchvision", "vit_b_16", 64),
        ("torchvision", "swin_t", 64),
        ("torchvision", "maxvit_t", 448),
    ],
)
def test_another_image_size(source: str, name: str, size: int) -> None:
    with torch.device("meta"):
        network = build(size, source=source, name=name)
        assert network.image_size == (size, size)
        assert network.module.eval()(torch.zeros(1, 3, size, size)).shape == (1, 3)


@pytest.mark.parametrize(("name", "size"), [("vit_base_patch16_384", 384), ("resnet50", 224), ("inception_v3", 299)])
def test_the_models_own_image_size(name: str, size: int) -> None:
    with torch.device("meta"):
        assert build(None, name=name).image_size == (size, size)


def test_an_image_that_is_not_square() -> None:
    for source, name in (
        ("timm", "test_vit"),
        ("timm", "test_efficientnet"),
        ("timm", "swin_tiny_patch4_window7_224"),
        ("torchvision", "resnet18"),
    ):
        with torch.device("meta"):
            network = build((224, 448), source=source, name=name)
            assert network.image_size == (224, 448)
            assert network.module.eval()(torch.zeros(network.blank_shape(1))).shape == (1, 3)
    for name in ("vit_b_16", "maxvit_t"):
        words = rf"image_size` \(\[224, 448\]\): torchvision's {name} takes square"
        with torch.device("meta"), pytest.raises(ConfigError, match=words):
            build((224, 448), source="torchvision", name=name)
    with torch.device("meta"):
        assert build(None, name="vit_base_patch16_sapiens2").image_size == (1024, 768)


def test_what_a_model_was_published_with() -> None:
    with torch.device("meta"):
        assert build(None, name="resnet50.a1_in1k").published == Published(0.95, "center", "bicubic", ((288, 288), 1.0))
        assert build(224, name="resnet50.a1_in1k").published.test == ((288, 288), 1.0)
        other = build((224, 256), name="resnet50.a1_in1k").published
        assert (other.test, other.crop_pct) == (None, 0.95)
        assert other.left_aside == "`data.image_size` is not the 224 x 224 px with which the model was published"
        assert build(None, name="resnet18.tv_in1k").published == Published(0.875, "center", "bilinear")
        assert build(None, name="vit_base_patch16_clip_224.openai").published.interpolation == "bicubic"
        assert build(None, name="convnext_base.fb_in22k_ft_in1k_384").published.crop_mode == "squash"
        published = build(None, source="torchvision", name="efficientnet_b0").published
        assert published == Published(224 / 256, "center", "bicubic")


class Fixed(Own):
    pretrained_cfg: ClassVar = {"input_size": (3, 64, 64), "test_input_size": (3, 96, 96), "fixed_input_size": True}


def test_the_published_test_size_of_a_model_that_takes_one_size_is_left_aside() -> None:
    network = build(None, name="tests.model.test_backbones:Fixed")
    assert network.image_size == (64, 64)
    assert (network.published.test, network.published.left_aside) == (None, "this model takes images of one size only")


def test_torchvisions_images_are_those_of_its_weights() -> None:
    with torch.device("meta"):
        network = build(None, source="torchvision", name="resnet50")
        assert (network.image_size, network.published.crop_pct) == ((224, 224), 224 / 232)
        assert build(None, source="torchvision", name="resnet50.IMAGENET1K_V1").published.crop_pct == 224 / 256
        assert build(None, source="torchvision", name="vit_h_14").image_size == (518, 518)


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [("timm", "test_vit", "DropPath"), ("torchvision", "efficientnet_b0", "StochasticDepth")],
)
def test_drop_path_goes_through_the_models_own_constructor(source: str, name: str, kind: str) -> None:
    module = build(64, source=source, name=name, drop_path=0.3, head={"init": "timm"}).module
    rates = [
        getattr(part, "drop_prob", getattr(part, "p", 0)) for part in module.modules() if type(part).__name__ == kind
    ]
    assert max(rates) > 0.2
    x = torch.randn(8, 3, 64, 64)
    assert not torch.equal(module.train()(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


def test_auxiliary_heads_train_and_keep_quiet_in_evaluation() -> None:
    network = build(96, source="torchvision", name="googlenet")
    x = torch.randn(2, 3, 96, 96)
    outputs = network.module.train()(x)
    assert [tuple(out.shape) for out in outputs] == [(2, 3)] * 3
    assert network.module.eval()(x).shape == (2, 3)
    assert network.module.transform_input, "the same function wherever the weights come from"


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_both_heads_of_a_distilled_model_learn_and_are_averaged(name: str) -> None:
    network = build(224, name=name, head={"init": "timm"})  # heads of zeros give a gradient of zero here
    outputs = network.module.train()(torch.randn(3, 3, 224, 224))
    assert outputs.shape == (3, 3)
    outputs.square().sum().backward()
    assert len(network.head) == 4
    assert all(network.module.get_parameter(name).grad.abs().sum() > 0 for name in network.head)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for on in (False, True):
        torch.manual_seed(0)
        module = build(grad_checkpointing=on, head={"init": "timm"}).module.train()
        torch.manual_seed(1)
        module(torch.randn(2, 3, 32, 32)).square().sum().backward()
        gradients.append([p.grad for p in module.parameters()])
        assert getattr(module, "grad_checkpointing", on) == on
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # type: ignore[arg-type]


def test_list_models() -> None:
    assert ("torchvision", "resnet50") in list_models("resnet50")
    assert ("timm", "resnet50d") in list_models("resnet50")
    assert list_models("resnet5?") == [("timm", "resnet50"), ("torchvision", "resnet50")]
    everything = list_models("*")
    assert len(everything) >= 1364 + 80
    assert not [name for _, name in everything if name.endswith("_enc")]
