"""Parameter groups: which parameters have weight decay, and by which factor of the learning rate they train."""

from typing import Any

import pytest
import timm
import timm.optim
import torch
import torchvision
from torch import nn

from dist_train.config.sections.model import ModelConfig
from dist_train.config.sections.optim import OptimConfig
from dist_train.errors import ConfigError
from dist_train.learning.optimizers.build import build_optimizer, set_lr
from dist_train.learning.optimizers.param_groups import param_groups
from dist_train.model.build import build_model

HEAD = frozenset({"1.weight", "1.bias"})


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def names_of(groups: list[dict[str, Any]], module: nn.Module) -> list[tuple[set[str], dict[str, Any]]]:
    names = {p: name for name, p in module.named_parameters()}
    return [
        ({names[p] for p in g["params"]}, {key: value for key, value in g.items() if key != "params"}) for g in groups
    ]


def test_no_decay_on_norms_and_biases_by_choice() -> None:
    module = timm.create_model("test_vit", num_classes=3)
    everything = names_of(param_groups(OptimConfig(lr=1, weight_decay=0.1), module, frozenset()), module)
    assert [(len(names), group["weight_decay"]) for names, group in everything] == [
        (len(list(module.parameters())), 0.1)
    ]
    cfg = OptimConfig(lr=1, weight_decay=0.1, decay_norm_and_bias=False)
    split = {group["weight_decay"]: names for names, group in names_of(param_groups(cfg, module, frozenset()), module)}
    assert all(module.get_parameter(name).ndim > 1 for name in split[0.1])
    assert {"norm.weight", "head.bias", "pos_embed", "cls_token"} <= split[0.0]


class Odd(nn.Module):
    """A bias of two dimensions, and parameters that the model names by a pattern, as some of timm's do."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(2, 2))
        self.inner = nn.Linear(4, 4)
        self.inner.bias = nn.Parameter(torch.ones(2, 2))
        self.last = nn.Linear(4, 2)

    def no_weight_decay(self) -> set[str]:
        return {"tab*"}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("make", [lambda: timm.create_model("test_vit"), lambda: timm.create_model("test_resnet"), Odd])
def test_groups_without_layer_decay_are_timms(make: Any, weight_decay: float) -> None:
    module = make()
    next(module.parameters()).requires_grad_(False)
    exempt = module.no_weight_decay() if hasattr(module, "no_weight_decay") else ()
    theirs = timm.optim.param_groups_weight_decay(module, weight_decay, no_weight_decay_list=exempt)
    ours = param_groups(OptimConfig(lr=1, weight_decay=weight_decay, decay_norm_and_bias=False), module, frozenset())
    assert [[id(p) for p in g["params"]] for g in ours] == [[id(p) for p in g["params"]] for g in theirs]
    assert [g["weight_decay"] for g in ours] == [g["weight_decay"] for g in theirs]


def test_layer_decay_and_head_scale_and_freezing_together() -> None:
    cfg = ModelConfig(name="test_vit", pretrained=False, freeze=("all_but_last:2",))
    network = build_model(cfg, 3, 32)
    groups = param_groups(OptimConfig(lr=1, layer_decay=0.5, head_lr_scale=10.0), network.module, network.head)
    scales = {name: group["lr_scale"] for names, group in names_of(groups, network.module) for name in names}
    assert set(scales) == {name for name, p in network.module.named_parameters() if p.requires_grad}
    assert scales["head.weight"] == 10.0
    assert scales["norm.weight"] == 0.5
    assert scales["blocks.5.attn.proj.weight"] == 0.5, "timm puts the last norm and the last block into one layer"
    assert scales["blocks.4.attn.proj.weight"] == 0.25
    optimizer = build_optimizer(OptimConfig(lr=1, layer_decay=0.5, head_lr_scale=10.0), network.module, network.head)
    set_lr(optimizer, 0.2)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[network.module.get_parameter("head.weight")] == pytest.approx(2.0)
    assert rates[network.module.get_parameter("norm.weight")] == pytest.approx(0.1)


def scales_of(cfg: OptimConfig, module: nn.Module, head: frozenset[str], **later: Any) -> dict[str, float]:
    groups = names_of(param_groups(cfg, module, head, **later), module)
    return {name: group["lr_scale"] for names, group in groups for name in names}


def last_layer(module: nn.Module) -> frozenset[str]:
    return frozenset([name for name, _ in module.named_parameters()][-2:])


@pytest.mark.parametrize(
    ("module", "scales"),
    [
        (
            torchvision.models.resnet18,
            {"fc.weight": 1, "layer4.1.bn2.bias": 0.5, "layer4.0.conv1.weight": 0.25, "bn1.weight": 2**-9, "conv1.weight": 2**-9},
        ),
        (
            torchvision.models.vit_b_16,
            {
                "heads.head.bias": 1,
                "encoder.ln.weight": 0.5,
                "encoder.layers.encoder_layer_11.ln_1.bias": 0.5,
                "encoder.layers.encoder_layer_0.ln_1.bias": 2**-12,
                "class_token": 2**-13,
                "encoder.pos_embedding": 2**-13,
                "conv_proj.weight": 2**-13,
            },
        ),
        (two_layers, {"1.weight": 1, "0.bias": 0.5}),
    ],
)  # fmt: skip
def test_layer_decay_of_models_that_are_not_timms(module: Any, scales: dict[str, float]) -> None:
    """As in timm's groups, norms belong to the layer before them, and embeddings to the first."""
    with torch.device("meta"):
        found = scales_of(OptimConfig(lr=1, layer_decay=0.5), made := module(), last_layer(made))
    assert found.keys() == {name for name, _ in made.named_parameters()}
    assert {name: found[name] for name in scales} == scales


def test_layer_decay_is_timms_for_its_models_and_has_a_floor() -> None:
    module = timm.create_model("test_vit", num_classes=3)
    theirs = timm.optim.param_groups_layer_decay(module, 0.1, layer_decay=0.5, min_scale=0.1)
    wanted = {name: group["lr_scale"] for names, group in names_of(theirs, module) for name in names}
    cfg = OptimConfig(lr=1, weight_decay=0.1, layer_decay=0.5, layer_decay_min=0.1)
    assert scales_of(cfg, module, frozenset()) == wanted
    assert min(wanted.values()) == 0.1
    plain = scales_of(cfg, two_layers(), HEAD)
    assert plain["0.weight"] == 0.5
    cfg = OptimConfig(lr=1, layer_decay=0.1, layer_decay_min=0.3, decay_norm_and_bias=False, weight_decay=0.1)
    assert scales_of(cfg, two_layers(), HEAD) == {"1.weight": 1, "1.bias": 1, "0.weight": 0.3, "0.bias": 0.3}


def test_factors_by_pattern_multiply_with_each_other_and_the_rest() -> None:
    module = timm.create_model("test_vit", num_classes=3)
    head = frozenset({"head.weight", "head.bias"})
    patterns = {"blocks.0": 0.1, "type:LayerNorm": 0.5, "head.bias": 4.0}
    found = scales_of(OptimConfig(lr=1, lr_scale=patterns, head_lr_scale=2.0), module, head)
    assert found["blocks.0.attn.qkv.weight"] == 0.1
    assert found["blocks.0.norm1.weight"] == pytest.approx(0.05)
    assert found["blocks.1.norm1.bias"] == 0.5
    assert (found["blocks.1.mlp.fc1.weight"], found["head.weight"], found["head.bias"]) == (1, 2, 8)
    decayed = scales_of(OptimConfig(lr=1, lr_scale=patterns, layer_decay=0.5), module, head)
    assert (
        decayed["blocks.1.norm1.bias"]
        == 0.5 * scales_of(OptimConfig(lr=1, layer_decay=0.5), module, head)["blocks.1.norm1.bias"]
    )
    with torch.device("meta"):
        others = scales_of(OptimConfig(lr=1, lr_scale={"layer[12].*": 0.2}), torchvision.models.resnet18(), frozenset())
    assert {name.split(".")[0] for name, scale in others.items() if scale == 0.2} == {"layer1", "layer2"}


def test_a_pattern_that_changes_no_rate_is_an_error() -> None:
    module = two_layers()
    with pytest.raises(ConfigError, match=r"`optim.lr_scale` \(2\) matches nothing in this model, which has"):
        param_groups(OptimConfig(lr=1, lr_scale={"2": 0.5}), module, HEAD)
    module[0].requires_grad_(False)
    cfg = OptimConfig(lr=1, lr_scale={"0": 0.5})
    with pytest.raises(ConfigError, match=r"`optim.lr_scale` \(0\): all that it matches is frozen; remove"):
        param_groups(cfg, module, HEAD)
    assert scales_of(cfg, module, HEAD, later=frozenset({"0.weight"})) == {"1.weight": 1, "1.bias": 1}
