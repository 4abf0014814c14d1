"""A step depends on its number alone, and leaves no gradient."""

from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.ddp import Ddp
from dist_train.learning.schedule import lr_factor
from dist_train.seeding import fold_in
from dist_train.training.setup import build_setup
from dist_train.training.step import AHEAD, Stepper, train_step
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
def test_no_gradient_is_left(tree: dict[str, Any], frozen: bool) -> None:
    freeze = {"model__freeze": "backbone"} if frozen else {}
    setup = build_setup(parse_config(changed(tree, **freeze, train__micro_batch=4)), Dist.alone())
    before = setup.state.model.state_dict()["head.weight"].clone()
    train_step(setup.stepper, setup.state)
    assert not torch.equal(setup.state.model.state_dict()["head.weight"], before)
    assert all(p.grad is None for p in setup.state.model.parameters())


class Halves(torch.nn.Module):
    """Its further scalar is the mean class of the batch."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(self.model(images), targets)
        return {"loss": loss, "twice": 2 * loss, "class": targets.float().mean()}


def test_scalars_are_means_over_micro_batches_and_steps(tree: dict[str, Any]) -> None:
    tree = changed(tree, train__micro_batch=3, loss__objective="tests.training.test_step:Halves")
    setup = build_setup(parse_config(tree), Dist.alone())
    classes: list[int] = []
    batches = setup.stepper.batches

    def noted() -> Any:
        for batch in batches:
            classes.extend(batch[1].tolist())
            yield batch

    setup.stepper.batches = noted()
    for _ in range(3):
        train_step(setup.stepper, setup.state)
    means = setup.state.sums.read(Dist.alone())
    assert len(classes) == 3 * 12
    assert means.extras == {
        "twice": pytest.approx(2 * means.loss),
        "class": pytest.approx(sum(classes) / len(classes)),
    }
