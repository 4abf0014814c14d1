"""Parameter groups, and the optimizer that a config names."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from dist_train.config.sections.model import ModelConfig
from dist_train.config.sections.optim import OptimConfig
from dist_train.config.sections.train import TrainConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single
from dist_train.errors import ConfigError
from dist_train.learning.clipping import clipping
from dist_train.learning.optimizer import build_optimizer, param_groups, set_lr
from dist_train.learning.precision import Precision
from dist_train.model.build import build_model
from tests.support.runs import changed, rows, state_digest, train

HEAD = frozenset({"1.weight", "1.bias"})


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_options_reach_the_constructor() -> None:
    cfg = OptimConfig(name="muon", lr=0.1, options={"ns_steps": 3})
    assert build_optimizer(cfg, two_layers(), HEAD).defaults["ns_steps"] == 3
    cfg = OptimConfig(name="sgd", lr=0.1, options={"maximize": True})
    assert build_optimizer(cfg, two_layers(), HEAD).defaults["maximize"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum": 0.5}, r"`optim.options` \(momentum\) is a key of its own; set `optim.momentum`"),
        ({"nestrov": True}, r"`optim.name` \(sgd\) cannot be built: .*nestrov"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_optimizer(OptimConfig(name="sgd", lr=0.1, options=options), two_layers(), HEAD)


@pytest.mark.parametrize(
    ("options", "kind", "values"),
    [
        ({"name": "sgd", "nesterov": True}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ({"name": "adam", "betas": (0.8, 0.9), "eps": 1e-3}, torch.optim.Adam, {"betas": (0.8, 0.9), "eps": 1e-3}),
        ({"name": "adamw"}, torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}),
        ({"name": "rmsprop", "momentum": 0.5, "alpha": 0.9}, torch.optim.RMSprop, {"momentum": 0.5, "alpha": 0.9}),
        ({"name": "lamb", "betas": (0.8, 0.9)}, timm.optim.Lamb, {"betas": (0.8, 0.9), "weight_decay": 0.01}),
        ({"name": "Lion"}, timm.optim.Lion, {"betas": (0.9, 0.999)}),
        ({"name": "rmsproptf", "momentum": 0.7}, timm.optim.RMSpropTF, {"momentum": 0.7}),
    ],
)
def test_optimizers_by_name(options: dict[str, Any], kind: type, values: dict[str, Any]) -> None:
    optimizer = build_optimizer(OptimConfig(lr=0.1, weight_decay=0.01, **options), two_layers(), HEAD)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == 0.1
        assert {key: group[key] for key in values} == values


@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
def test_every_timm_optimizer_can_be_built_or_says_why_not() -> None:
    built, refused = [], {}
    for name in timm.optim.list_optimizers():
        try:
            optimizer = build_optimizer(OptimConfig(name=name, lr=0.1), two_layers(), HEAD)
            built.append(name)
            assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
        except ConfigError as error:
            refused[name] = str(error)
    assert {"adafactor", "adan", "kron", "lars", "lion", "madgrad", "muon", "nadamw", "novograd"} <= set(built)
    needs_another_package = {name for name in refused if name.startswith(("bnb", "fused"))}
    assert set(refused) - needs_another_package <= {"adahessian"}
    assert all(f"`optim.name` ({name})" in message for name, message in refused.items())


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_a_capital_letter_makes_no_other_optimizer(name: str) -> None:
    ours, theirs = (build_optimizer(OptimConfig(name=n, lr=0.1), two_layers(), HEAD) for n in (name, name.lower()))
    assert type(ours) is type(theirs)
    assert ours.defaults == theirs.defaults, "timm's sgd has Nesterov's momentum"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adamww", r"`optim.name` \(adamww\) is unknown: it is neither sgd, .* did you mean adamw or (?!adamw)\w+"),
        ("adahessian", "needs second derivatives"),
        ("lookahead_adam", "lookahead keeps a copy of the weights that checkpoints cannot save; use adam"),
    ],
)
def test_an_optimizer_that_cannot_be_is_an_error(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_optimizer(OptimConfig(name=name, lr=0.1), two_layers(), HEAD)
    with pytest.raises(ConfigError, match=r"`optim.name` \(sgd\) cannot be built: Nesterov momentum requires"):
        build_optimizer(OptimConfig(lr=0.1, momentum=0.0, nesterov=True), two_layers(), HEAD)


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


@pytest.mark.parametrize("name", ["rmsprop", "muon", "adafactor"])
def test_other_optimizers_resume_bit_for_bit(tree: dict[str, Any], name: str) -> None:
    tree = changed(tree, optim={"name": name, "lr": 1e-3}, train__epochs=1, checkpoint={"every_steps": 1, "keep": 100})
    straight = train(tree, run__name="straight")
    resumed = train(tree, run__name="resumed")
    for folder in sorted((resumed / "checkpoints").iterdir())[2:]:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    train(tree, run__name="resumed")
    assert state_digest(resumed) == state_digest(straight)
    assert rows(resumed) == rows(straight)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_torchs_optimizers_are_fused_and_a_skipped_first_step_leaves_them_as_new(name: str) -> None:
    """A fused SGD would otherwise make its momentum in the step that is skipped, of memory as it is found."""
    results = []
    for skip_first in (False, True):
        module = two_layers()
        optimizer = build_optimizer(OptimConfig(name=name, lr=0.1, weight_decay=0.01), module, HEAD)
        assert all(group["fused"] for group in optimizer.param_groups)
        number_format = Precision(TrainConfig(global_batch=1, nonfinite="skip"), torch.device("cpu"))
        for value in ([torch.inf] if skip_first else []) + [1.0, 2.0]:
            number_format.backward(module(torch.full((1, 4), value)).square().sum())
            number_format.step(optimizer, clipping(None, Single(Dist.alone()).clip, frozenset()))
            optimizer.zero_grad()
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*results)


def test_the_first_step_of_our_sgd_is_torchs() -> None:
    results = []
    for ours in (True, False):
        module = two_layers()
        optimizer: torch.optim.Optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        if ours:
            optimizer = build_optimizer(OptimConfig(lr=0.1, nesterov=True), module, HEAD)
        for _ in range(3):
            module(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert results[0].numpy() == pytest.approx(results[1].numpy(), rel=1e-6)
