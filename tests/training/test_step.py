"""What a step takes from its number alone, and that it leaves no gradient behind."""

from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.config.plan import make_plan
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.ddp import Ddp
from dist_train.learning.optimizer import drop_gradients, set_lr
from dist_train.learning.schedule import lr_factor
from dist_train.seeding import fold_in
from dist_train.training.step import AHEAD, Stepper
from tests.support.runs import changed

UNUSED: Any = None


def stepper(tree: dict[str, Any], rank: int = 1) -> Stepper:
    cfg = parse_config(changed(tree, train__epochs=AHEAD, train__global_batch=12, train__micro_batch=2))
    strategy = Ddp(Dist(rank, rank, 2, torch.device("cpu"), "ddp"))
    return Stepper(cfg, make_plan(cfg, 24, 2), strategy, UNUSED, UNUSED, UNUSED, UNUSED)


def test_the_numbers_of_a_step_are_the_same_from_wherever_a_run_comes(tree: dict[str, Any]) -> None:
    """They are worked out for many steps at once; a resumed run begins anywhere among them."""
    straight = stepper(tree)
    cfg, plan = straight.cfg, straight.plan
    assert (plan.total_steps, plan.accumulate) == (2 * AHEAD, 3)
    numbers = [straight.numbers(step) for step in range(plan.total_steps)]
    for step, (lr, keys) in enumerate(numbers):
        assert lr == cfg.optim.lr * lr_factor(cfg.schedule, cfg.optim.lr, plan, step)
        assert keys == [fold_in(cfg.run.seed, "micro", step, micro, 1) for micro in range(3)]
    resumed = stepper(tree)
    begin = AHEAD // 2 + 1
    assert [resumed.numbers(step) for step in range(begin, plan.total_steps)] == numbers[begin:]
    assert resumed.numbers(0) == numbers[0], "and back"
    others = [stepper(tree, rank=0).numbers(step)[1] for step in range(plan.total_steps)]
    keys = [key for _, own in numbers for key in own] + [key for own in others for key in own]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("frozen", [False, True])
def test_no_gradient_is_left(frozen: bool) -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(not frozen)
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr_scale": 1.0}, {"params": [model.bias], "lr_scale": 0.5}], lr=1.0
    )
    set_lr(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]
    model(torch.ones(1, 2)).sum().backward()
    assert model.weight.grad is not None
    assert (model.bias.grad is None) == frozen
    drop_gradients(optimizer)
    assert model.weight.grad is model.bias.grad is None
