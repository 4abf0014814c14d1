"""What all strategies share, and how one is added: the example of docs/extending.md, trained with."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from dist_train.config import choices, parse_config
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single
from tests.support.examples import code_below
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows, train


@pytest.mark.parametrize("limit", [0.01, 1.0, 1e6, float("inf")])
def test_clipping_has_the_bits_of_torchs_own(limit: float) -> None:
    torch.manual_seed(0)
    grads = [torch.randn(size) for size in (7, 64, 1000)]
    ours, theirs = [g.clone() for g in grads], [nn.Parameter(torch.zeros_like(g)) for g in grads]
    for parameter, grad in zip(theirs, grads, strict=True):
        parameter.grad = grad.clone()
    norm = Single(Dist.alone()).clip(ours, limit)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, limit))
    for mine, parameter in zip(ours, theirs, strict=True):
        assert parameter.grad is not None
        assert torch.equal(mine, parameter.grad)


def test_a_state_is_loaded_as_it_was_returned() -> None:
    strategy, model, other = Single(Dist.alone()), nn.Linear(2, 2), nn.Linear(2, 2)
    strategy.load_state_dict(other, strategy.state_dict(model))
    assert torch.equal(model.weight, other.weight)


def _with_the_example(tree: dict[str, Any]) -> int:
    code, row = code_below("extending.md", "A strategy")
    module = ModuleType("dist_train.distributed.strategies.ddp_bf16")
    exec(code, module.__dict__)
    sys.modules[module.__name__] = module
    choices.STRATEGIES.rows.update(eval(f"{{{row}}}", vars(choices)))
    from dist_train.training.attempt import main

    return main(parse_config(changed(tree, distributed__strategy="ddp_bf16")))


def test_a_file_and_a_row_add_a_strategy(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__epochs=1, log__every_steps=1)
    assert run_ranks(2, _with_the_example, tree) == [0, 0]
    rounded, usual = (
        [row["loss"] for row in rows(run, "train")] for run in (folder(tree), train(tree, 2, run__name="usual"))
    )
    assert rounded == pytest.approx(usual, rel=0.02)
    assert rounded != usual
