"""The state at step 0, and what unfreezing makes of it."""

from typing import Any

import torch

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.training.parts.build_state import train_more
from dist_train.training.setup import Setup, build_setup
from dist_train.training.step import train_step
from tests.support.runs import changed


def built(tree: dict[str, Any], **overrides: Any) -> Setup:
    return build_setup(parse_config(changed(tree, **overrides)), Dist.alone())


def held(setup: Setup) -> int:
    return sum(p.numel() for group in setup.state.optimizer.param_groups for p in group["params"])


def test_the_optimizer_holds_what_trains(tree: dict[str, Any]) -> None:
    frozen = built(tree, model__freeze="backbone")
    assert held(frozen) == 64 * 3 + 3
    own = built(tree, run__name="own", model__freeze="backbone", loss__objective="tests.support.objectives:Projection",
                optim__head_lr_scale=5.0)  # fmt: skip
    assert held(own) == 2 * (64 * 3 + 3), "a layer of the objective's own trains with the head"
    assert {group["lr_scale"] for group in own.state.optimizer.param_groups} == {5.0}


def test_the_ema_is_of_the_model_alone(tree: dict[str, Any]) -> None:
    setup = built(tree, train__ema=0.9, loss__objective="tests.support.objectives:Projection")
    assert setup.state.ema is not None
    assert setup.state.evaluated_model is setup.state.ema.module
    assert setup.state.ema.module.state_dict().keys() == setup.state.model.state_dict().keys()


def test_unfreezing_keeps_the_moments_of_the_head(tree: dict[str, Any]) -> None:
    setup = built(tree, model__freeze="backbone", model__unfreeze={1: "all"}, optim={"name": "adamw", "lr": 1e-3})
    train_step(setup.stepper, setup.state)
    head = setup.network.module.get_parameter("head.weight")
    moment = setup.state.optimizer.state[head]["exp_avg"].clone()
    parts = setup.cfg, setup.plan, setup.network, setup.index.outputs, setup.state
    setup.stepper.wrapped = train_more(*parts, 5)
    assert held(setup) == sum(p.numel() for p in setup.state.model.parameters())
    assert torch.equal(setup.state.optimizer.state[head]["exp_avg"], moment)
    before = setup.network.module.get_parameter("patch_embed.proj.weight").clone()
    train_step(setup.stepper, setup.state)
    assert not torch.equal(setup.network.module.get_parameter("patch_embed.proj.weight"), before)
