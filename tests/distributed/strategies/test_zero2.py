"""Whole weights during a step, parts of them between steps: the numbers of DDP and of FSDP."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import joined
from dist_train.distributed.strategies.shards import is_shared
from dist_train.training.setup import build_strategy
from tests.support.ranks import run_ranks
from tests.support.runs import changed, resumes_exactly, rows, state_digest, train

ZERO2 = {"distributed__strategy": "zero2", "optim": {"name": "adamw", "lr": 0.005}}


def _whole_parameters(name: str) -> tuple[list[bool], bool]:
    """Whether the weights are whole after a forward pass, and after the backward pass."""
    with joined(DistributedConfig(strategy=name, timeout_s=30)) as group:
        model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1))
        build_strategy(group).shard(model, [model[0]])
        loss: Tensor = model(torch.ones(2, 4)).sum()
        between = [not is_shared(parameter) for parameter in model.parameters()]
        loss.backward()  # type: ignore[no-untyped-call]
        return between, any(not is_shared(parameter) for parameter in model.parameters())


@pytest.mark.parametrize(("name", "whole"), [("zero2", True), pytest.param("fsdp", False, marks=pytest.mark.slow)])
def test_weights_are_whole_between_forward_and_backward_pass(name: str, whole: bool) -> None:
    assert run_ranks(2, _whole_parameters, name) == [([whole] * 4, False)] * 2


def _after_a_forward_pass_alone(name: str) -> list[bool]:
    with joined(DistributedConfig(strategy=name, timeout_s=30)) as group:
        model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1))
        strategy = build_strategy(group)
        strategy.shard(model, [model[0]])
        with torch.no_grad():
            model(torch.ones(2, 4))
        strategy.rest(model)
        return [is_shared(parameter) for parameter in model.parameters()]


def test_weights_are_divided_again_when_no_backward_pass_follows() -> None:
    assert run_ranks(2, _after_a_forward_pass_alone, "zero2") == [[True] * 4] * 2


@pytest.mark.slow
def test_a_run_resumes_exactly_after_layers_began_to_train(tree: dict[str, Any]) -> None:
    tree = changed(
        tree,
        **ZERO2,
        model__freeze="backbone",
        model__unfreeze={1: "all"},
        train__epochs=2,
        checkpoint={"every_steps": 1, "keep": 10},
    )
    resumes_exactly(tree, 2, kept=5)


@pytest.mark.slow
def test_a_run_is_that_of_fsdp_and_resumes_exactly(tree: dict[str, Any]) -> None:
    tree = changed(
        tree,
        **ZERO2,
        model__freeze=["all_but_last:2"],
        train__epochs=1,
        train__ema=0.9,
        train__clip=0.5,
        train__micro_batch=3,
        checkpoint={"every_steps": 1, "keep": 10},
    )
    parts = resumes_exactly(changed(tree, run__name="parts"), 2, kept=3)
    whole = train(tree, 2, run__name="whole", distributed__strategy="ddp")
    assert [row["loss"] for row in rows(parts)] == pytest.approx([row["loss"] for row in rows(whole)], rel=1e-5)
    other = train(tree, 2, run__name="fsdp", distributed__strategy="fsdp")
    assert state_digest(other) == state_digest(parts)
