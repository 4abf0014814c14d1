"""A step depends on its number alone, and leaves no gradient."""

import copy
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.distributed.group import Dist, joined
from dist_train.distributed.strategies.ddp import Ddp
from dist_train.learning.algorithms import restored_algorithms
from dist_train.learning.schedule import lr_factor
from dist_train.seeding import fold_in
from dist_train.training.guard import refuse_what_is_not_finite
from dist_train.training.parts.compiled import restored_compiler
from dist_train.training.setup import build_setup
from dist_train.training.step import AHEAD, Stepper, train_step
from tests.support.odd_models import FAULTS
from tests.support.ranks import run_ranks
from tests.support.runs import changed

UNUSED: Any = None
SWITCH = "tests.support.odd_models:Switch"


def stepper(tree: dict[str, Any], rank: int = 1) -> Stepper:
    cfg = parse_config(changed(tree, train__epochs=AHEAD, train__global_batch=12, train__micro_batch=2))
    strategy = Ddp(Dist(rank, rank, 2, torch.device("cpu"), "ddp"))
    return Stepper(cfg, make_plan(cfg, 24, 2), strategy, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED)


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


class Faulty(torch.nn.Module):
    """The loss is infinite and its gradient finite, where the model says so."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(3))
        self.teacher = torch.nn.Linear(3, 3).requires_grad_(False)
        self.changing = ("teacher",)

    def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        outputs = self.model(images).float()
        self.mean = 0.9 * self.mean + outputs.detach().mean(0)
        with torch.no_grad():
            self.teacher.weight.mul_(0.9)
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        return loss + float("inf" if self.model.kind == "loss" else 0)


def around_a_skipped_step(tree: dict[str, Any], kind: str, faulty_rank: int) -> list[str]:
    """Make three good steps and one with a fault on one rank; return the names of what the fourth has changed."""
    cfg = parse_config(tree)
    with joined(cfg.distributed) as group:
        setup = build_setup(cfg, group)
        for _ in range(3):
            train_step(setup.stepper, setup.state)
        before = flat(copy.deepcopy(setup.state.state_dict(group)))
        setup.state.model.kind = kind if group.rank == faulty_rank else ""
        train_step(setup.stepper, setup.state)
        after = flat(copy.deepcopy(setup.state.state_dict(group)))
        assert setup.state.sums.read(group).bad_steps == 1
        refuse_what_is_not_finite(setup)
        setup.state.model.kind = ""
        train_step(setup.stepper, setup.state)
        assert setup.state.sums.read(group).bad_steps == 1, "the next step is a good one"
        return [name for name, value in after.items() if not torch.equal(value, before[name])]


def flat(value: Any, name: str = "state") -> dict[str, torch.Tensor]:
    """Return the tensors of a nested state by their paths."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {path: tensor for key, item in items for path, tensor in flat(item, f"{name}.{key}").items()}


PLAIN = {"train__nonfinite": "skip", "train__ema": 0.9}


@pytest.mark.parametrize("kind", [*FAULTS, "loss"])
def test_a_skipped_step_leaves_everything_as_it_was(tree: dict[str, Any], kind: str) -> None:
    objective = "tests.training.test_step:Faulty"
    tree = changed(tree, model__name=SWITCH, loss__objective=objective, **PLAIN, log__every_steps=99)
    for ranks in (1, 2):
        for found in run_ranks(ranks, around_a_skipped_step, tree, kind, ranks - 1):
            assert found == ["state.sums"]


@pytest.mark.parametrize(
    "options",
    [
        {"train__precision": "amp_fp16", "optim": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
        {"train__precision": "fp16", "train__clip_grad": 1.0},
        {"model__sync_bn": True, "optim": {"name": "rmsprop", "lr": 0.01}},
        {"train__micro_batch": 2, "optim": {"name": "adamw", "lr": 0.01}},
    ],
    ids=["amp_fp16", "fp16", "sync_bn", "accumulated"],
)
def test_so_does_one_with(tree: dict[str, Any], options: dict[str, Any]) -> None:
    tree = changed(tree, **(PLAIN | {"model__name": SWITCH, "log__every_steps": 99} | options))
    scale = {"state.precision.scale", "state.precision._growth_tracker"}
    for found in run_ranks(2, around_a_skipped_step, tree, "activation", 1):
        assert set(found) - scale == {"state.sums"}


def test_gradients_leave_the_memory_of_cuda_graphs_before_the_next_micro_batch(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is left out: what counts is where gradients lie after each pass, and that they are the same."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    weights, places = [], []
    for compiled in (False, {"mode": "reduce-overhead"}):
        cfg = parse_config(changed(tree, train__micro_batch=4, model__compile=compiled))
        with restored_algorithms(), restored_compiler():
            setup = build_setup(cfg, Dist.alone())
            head = setup.state.model.get_parameter("head.weight")
            seen: list[int] = []
            head.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append(p.grad.data_ptr()))
            train_step(setup.stepper, setup.state)
        weights.append(head.detach().clone())
        places.append(seen)
    assert torch.equal(*weights)
    (first, second, third), (graph, own, still) = places
    assert first == second == third
    assert graph != own == still
