"""Which parameters are frozen, and how frozen modules behave."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from dist_train.checkpoint.stored import load
from dist_train.config import parse_config
from dist_train.config.sections.model import ModelConfig
from dist_train.errors import ConfigError
from dist_train.model.build import build_model
from dist_train.model.freeze import Stage, freeze, stages, train_mode, unfreeze
from tests.support.odd_models import NoAffine
from tests.support.runs import changed, rows, state_digest, train

HEAD = frozenset({"fc.weight", "fc.bias"})


def resnet() -> nn.Module:
    with torch.device("meta"):
        return torchvision.models.resnet18(num_classes=3)


def frozen(module: nn.Module, patterns: Any, head: frozenset[str] = HEAD) -> set[str]:
    off = freeze(module, ModelConfig(name="x", freeze=patterns), head)
    assert off == {name for name, p in module.named_parameters() if not p.requires_grad}
    return set(off)


def test_none_and_backbone() -> None:
    assert frozen(resnet(), "none") == set()
    module = resnet()
    assert frozen(module, "backbone") == {name for name, _ in module.named_parameters()} - HEAD


def test_names_and_globs() -> None:
    assert frozen(resnet(), ("conv1",)) == {"conv1.weight"}
    module = resnet()
    off = frozen(module, ("conv1", "layer1.*", "layer2.0.bn?"))
    assert off == {
        name for name, _ in module.named_parameters() if name.startswith(("conv1", "layer1.", "layer2.0.bn"))
    }
    assert len(off) == 1 + 12 + 4
    assert frozen(resnet(), ("layer1",)) == frozen(resnet(), ("layer1.*",)), "a module's name means all of it"


def test_types() -> None:
    module = resnet()
    assert frozen(module, ("type:Conv2d",)) == {name for name, p in module.named_parameters() if p.ndim == 4}
    timms = timm.create_model("test_efficientnet")  # its norms are subclasses of BatchNorm2d
    norms = frozen(timms, ("type:BatchNorm2d",), frozenset())
    assert norms
    assert all(timms.get_parameter(name).ndim == 1 for name in norms)


@pytest.mark.parametrize(
    ("source", "name", "pattern", "first_kept"),
    [
        (timm.create_model, "test_vit", "all_but_last:1", "blocks.5"),
        (timm.create_model, "test_vit", "all_but_last:2", "blocks.4"),
        (timm.create_model, "test_resnet", "all_but_last:1", "layer4.0"),
        (torchvision.models.get_model, "resnet18", "all_but_last:1", "layer4.1"),
        (torchvision.models.get_model, "resnet18", "all_but_last:3", "layer3.1"),
        (torchvision.models.get_model, "vit_b_16", "all_but_last:2", "encoder.layers.encoder_layer_10"),
        (torchvision.models.get_model, "efficientnet_b0", "all_but_last:2", "features.7.0"),
        (torchvision.models.get_model, "squeezenet1_1", "all_but_last:1", "features.12"),
    ],
)
def test_all_but_the_last_blocks(source: Callable[[str], nn.Module], name: str, pattern: str, first_kept: str) -> None:
    with torch.device("meta"):
        module = source(name)
    last = [name for name, _ in module.named_parameters()][-2:]
    off = freeze(module, ModelConfig(name="x", freeze=(pattern,)), frozenset(last))
    names = [name for name, _ in module.named_parameters()]
    kept = [name for name in names if name not in off]
    assert kept[0].startswith(first_kept)
    assert off == set(names[: names.index(kept[0])]), "everything in front of it is frozen"
    assert set(last) <= set(kept)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("layer9.*", r"`model.freeze` \(layer9.\*\) matches nothing in this model, which has layer"),
        ("type:Conv3d", r"\(type:Conv3d\) matches nothing in this model, which has Conv2d"),
        ("fc", "matches only the head, which always trains"),
        ("all_but_last:99", "this model has 9 blocks, so use all_but_last:N with N from 1 to 8"),
        ("all_but_last:two", "all_but_last:N"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        frozen(resnet(), ("conv1", pattern))


def test_the_head_always_trains_and_parameters_fixed_by_design_stay_fixed() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].bias.requires_grad_(False)
    off = freeze(module, ModelConfig(name="x", freeze=("type:Linear",)), frozenset({"1.weight", "1.bias"}))
    assert off == {"0.weight"}
    unfreeze(module, *stages(module, ModelConfig(name="x", freeze="backbone", unfreeze={1: "all"}), off))
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True]


def test_frozen_norms_and_dropouts_stay_in_eval_mode() -> None:
    cfg = ModelConfig(source="torchvision", name="mobilenet_v3_small", pretrained=False, freeze=("features.[0-3]",))
    module = build_model(cfg, 3, 32).module
    train_mode(module)
    before = {name: b.clone() for name, b in module.named_buffers()}
    module(torch.randn(4, 3, 32, 32))
    changed_buffers = {name for name, b in module.named_buffers() if not torch.equal(b, before[name])}
    assert changed_buffers
    assert not {name for name in changed_buffers if name.startswith(tuple(f"features.{i}." for i in range(4)))}
    assert {name for name in before if name.startswith("features.5.")} <= changed_buffers, "the others do learn"
    assert module.classifier[2].training, "the head's dropout is on"  # type: ignore[union-attr, index]
    module.eval()
    assert not any(part.training for part in module.modules())


def test_drop_path_of_frozen_blocks_is_off() -> None:
    cfg = ModelConfig(name="test_vit", pretrained=False, drop_path=0.5, freeze=("blocks.[0-4]",))
    module = build_model(cfg, 3, 32).module
    train_mode(module)
    modes = {name: part.training for name, part in module.named_modules() if type(part).__name__ == "DropPath"}
    assert {name for name, training in modes.items() if training} == {"blocks.5.drop_path1", "blocks.5.drop_path2"}
    assert len(modes) > 2


GRADUAL = {"name": "test_resnet", "pretrained": False, "freeze": "backbone", "unfreeze": {1: "layer4", 2: "all"}}


@pytest.mark.parametrize(
    "world_size", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_unfreezing_at_an_epoch_survives_a_resume_bit_for_bit(tree: dict[str, Any], world_size: int) -> None:
    tree = changed(
        tree,
        model=GRADUAL,
        optim={
            "name": "adamw",
            "lr_base": {"rate": 0.02, "scale": "linear"},
            "layer_decay": 0.9,
            "layer_decay_min": 0.5,
            "lr_scale": {"layer4": 0.5, "type:BatchNorm2d": 2.0},
            "head_lr_scale": 2.0,
        },
        schedule={
            "warmup_epochs": 0.4,
            "warmup_lr": 1e-5,
            "cooldown_epochs": 0.4,
            "restarts": {"every_epochs": 0.6, "length_factor": 2.0, "peak_factor": 0.8},
        },
        train__ema={"decay": 0.9, "warmup": True, "every": 2},
        train__clip={"mode": "agc", "value": 0.05},
        train__epochs=3,
        checkpoint={"every_steps": 1, "keep": 100},
    )
    run = train(tree, world_size)
    straight = state_digest(run), rows(run)
    assert len(rows(run, "val")) == 3
    for killed_after in {1: (7, 10), 2: (5, 12), 4: (11,)}[
        world_size
    ]:  # after the steps of the unfreezing, and at them
        for folder in (run / "checkpoints").iterdir():
            if int(folder.name[5:13]) > killed_after:
                shutil.rmtree(folder)
        train(tree, world_size)
        assert (state_digest(run), rows(run)) == straight


def staged(module: nn.Module, patterns: Any, unfrozen: dict[Any, Any]) -> tuple[Stage, ...]:
    cfg = ModelConfig(name="x", freeze=patterns, unfreeze=unfrozen)
    return stages(module, cfg, freeze(module, cfg, HEAD))


def test_stages_follow_the_epochs_and_take_what_is_left() -> None:
    module = resnet()
    second, fourth, last = staged(module, "backbone", {4: ("layer3", "type:BatchNorm2d"), 2: "layer4", "6": "all"})
    assert [stage.epoch for stage in (second, fourth, last)] == [2, 4, 6]
    assert all(name.startswith("layer4.") for name in second.names)
    assert {"layer3.0.conv1.weight", "layer1.0.bn1.bias"} <= fourth.names
    assert not second.names & fourth.names
    assert "conv1.weight" in last.names
    assert second.names | fourth.names | last.names == {name for name, _ in module.named_parameters()} - HEAD
    unfreeze(module, second)
    train_mode(module)
    assert module.layer4[0].bn1.training
    assert not module.layer3[0].bn1.training, "BatchNorms of frozen layers stay in eval mode"


@pytest.mark.parametrize(
    ("unfrozen", "words"),
    [
        ({1: "layer9"}, r"`model.unfreeze` \(layer9\) matches nothing in this model, which has layer4"),
        ({1: "layer4", 2: "layer4.0"}, r"\(2: layer4.0\): all that it matches trains already"),
        ({1: "layer1"}, r"\(1: layer1\): all that it matches trains already"),
        ({1: ("all", "fc")}, r"\(1: fc\): all that it matches trains already"),
        ({1: "all_but_last:1"}, "all_but_last is for `model.freeze`; name the layers, or use all"),
        ({1: "type:Conv3d"}, r"\(type:Conv3d\) matches nothing"),
    ],
)
def test_a_stage_in_which_nothing_begins_to_train_is_an_error(unfrozen: dict[Any, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        staged(resnet(), ("layer[2-4]",), unfrozen)


def test_statistics_without_parameters_follow_the_pattern_of_their_layer() -> None:
    module = NoAffine(3)
    cfg = ModelConfig(name="x", freeze="backbone", unfreeze={1: "norm", 2: "all"})
    first, second = stages(module, cfg, freeze(module, cfg, frozenset({"head.1.weight", "head.1.bias"})))
    unfreeze(module, first)
    assert _moving(module) == {"norm", "head.0"}
    unfreeze(module, second)
    assert _moving(module) == {"first", "norm", "head.0"}


def test_unfreezing_trains_the_backbone_from_that_step_on(tree: dict[str, Any]) -> None:
    tree = changed(
        tree,
        model=GRADUAL,
        checkpoint={"every_steps": 1, "keep": 100},
        train__epochs=3,
    )
    run = train(tree)
    states = {}
    for folder in (run / "checkpoints").iterdir():
        states[int(folder.name[5:13])] = load(folder)
    weights = {
        step: state["model"]["conv1.weight" if "conv1.weight" in state["model"] else "conv1.0.weight"]
        for step, state in states.items()
    }
    last = {
        step: torch.cat([w.flatten().float() for name, w in state["model"].items() if name.startswith("layer4")])
        for step, state in states.items()
    }
    assert torch.equal(weights[1], weights[10])
    assert not torch.equal(weights[10], weights[11])
    assert torch.equal(last[1], last[5])
    assert not torch.equal(last[5], last[6])
    held = {step: sum(len(g["params"]) for g in state["optimizer"]["param_groups"]) for step, state in states.items()}
    assert held[5] == 2, "the optimizer holds only what can train"
    assert 2 < held[6] == held[10] < held[11]


def test_an_unfreezing_after_the_end_is_an_error(tree: dict[str, Any]) -> None:
    from dist_train.config.planning import make_plan

    cfg = parse_config(changed(tree, model__freeze="backbone", model__unfreeze={1: "norm", 2: "all"}))
    with pytest.raises(ConfigError, match=r"`model.unfreeze` \(2\) is step 10, but the run ends at step 10"):
        make_plan(cfg, 60, 1)


@pytest.mark.parametrize(
    ("patterns", "moving"),
    [
        ("backbone", {"head.0"}),
        (("conv",), {"first", "norm", "head.0"}),
        (("conv", "norm"), {"first", "head.0"}),
        (("conv", "type:BatchNorm2d"), {"head.0"}),
        ("none", {"first", "norm", "head.0"}),
    ],
)
def test_statistics_without_parameters_are_frozen_with_what_is_around_them(patterns: Any, moving: set[str]) -> None:
    module = NoAffine(3)
    off = freeze(module, ModelConfig(name="x", freeze=patterns), frozenset({"head.1.weight", "head.1.bias"}))
    assert _moving(module) == moving
    if patterns != "none":
        unfreeze(module, *stages(module, ModelConfig(name="x", freeze=patterns, unfreeze={1: "all"}), off))
    assert _moving(module) == {"first", "norm", "head.0"}


def test_before_the_last_blocks_statistics_are_frozen_with_the_layer_before_them() -> None:
    blocks = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False), nn.ReLU()) for _ in range(3)]
    module = nn.Sequential(*[layer for block in blocks for layer in block], nn.Flatten(), nn.Linear(12, 3))
    freeze(module, ModelConfig(name="x", freeze=("all_but_last:1",)), frozenset({"10.weight", "10.bias"}))
    train_mode(module)
    assert [name for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d) and part.training] == [
        "7"
    ]


def _moving(module: nn.Module) -> set[str]:
    """Return the layers whose statistics a training pass changes."""
    train_mode(module)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module(torch.randn(4, 3, 9, 9))
    changed_buffers = (name for name, buffer in module.named_buffers() if not torch.equal(buffer, before[name]))
    return {name.rpartition(".")[0] for name in changed_buffers}
