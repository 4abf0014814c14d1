"""Schedules are pure functions of the step, and equal torch's where torch has them."""

import itertools
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from dist_train.config import parse_config
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.config.sections.schedule import ScheduleConfig
from dist_train.learning.schedule import lr_factor
from tests.support.runs import changed

STEPS, PER_EPOCH = 40, 4


def plan(warmup_steps: int = 0) -> Plan:
    return Plan(
        world_size=1,
        train_images=PER_EPOCH * 2,
        global_batch=2,
        micro_batch=2,
        accumulate=1,
        steps_per_epoch=PER_EPOCH,
        total_steps=STEPS,
        warmup_steps=warmup_steps,
        eval_every_steps=4,
        save_every_steps=4,
        log_every_steps=4,
    )


def factors(warmup_steps: int = 0, **schedule: Any) -> list[float]:
    cfg = ScheduleConfig(**schedule)
    return [lr_factor(cfg, 0.5, plan(warmup_steps), step) for step in range(STEPS)]


def torchs(make: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, values = make(optimizer), []
    for _ in range(STEPS):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_the_cosine_schedule_by_hand(tree: dict[str, Any]) -> None:
    plan = make_plan(parse_config(changed(tree, schedule__warmup_epochs=0.4, train__epochs=2)), 60, 1)
    factors = [lr_factor(ScheduleConfig(min_lr=0.01), 0.1, plan, step) for step in range(plan.total_steps)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.1 + 0.9 * 0.5, abs=1e-12), "halfway between the end of warm-up and the end"
    assert factors == sorted(factors[:2]) + sorted(factors[2:], reverse=True)
    assert 0.1 < factors[-1] < 0.15


def test_steps_of_a_part_of_an_epoch_are_not_late_by_a_rounding() -> None:
    tenths = Plan(**{**asdict(plan()), "steps_per_epoch": 10})
    cfg = ScheduleConfig(name="step", step_epochs=0.1, gamma=0.5)
    assert [lr_factor(cfg, 0.5, tenths, step) for step in range(STEPS)] == [0.5**step for step in range(STEPS)]


def test_constant() -> None:
    assert factors(name="constant") == [1.0] * STEPS


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ({"name": "cosine", "min_lr": 0.05}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.1)),
        ({"name": "linear", "min_lr": 0.05}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, STEPS)),
        ({"name": "step", "step_epochs": 3.0}, lambda o: lr_scheduler.StepLR(o, 3 * PER_EPOCH)),
        (
            {"name": "multistep", "milestones": (2.0, 7.5), "gamma": 0.3},
            lambda o: lr_scheduler.MultiStepLR(o, [8, 30], 0.3),
        ),
        ({"name": "exponential", "gamma": 0.8}, lambda o: lr_scheduler.ExponentialLR(o, 0.8 ** (1 / PER_EPOCH))),
        ({"name": "onecycle"}, lambda o: lr_scheduler.OneCycleLR(o, 1.0, STEPS, cycle_momentum=False)),
        (
            {"name": "onecycle", "pct_start": 0.5},
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, STEPS, pct_start=0.5, cycle_momentum=False),
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_schedules_are_torchs(schedule: dict[str, Any], make: Any) -> None:
    ours = factors(**schedule)
    assert ours == pytest.approx(torchs(make), abs=1e-9)
    assert len(set(ours)) > 2


@pytest.mark.parametrize("name", ["cosine", "constant", "linear", "exponential"])
def test_warm_up_is_linear_and_the_schedule_follows(name: str) -> None:
    values = factors(warmup_steps=8, name=name)
    assert values[:8] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert all(later <= earlier for earlier, later in itertools.pairwise(values[8:]))
    if name != "exponential":
        assert values[8] == 1


@pytest.mark.parametrize("name", ["step", "exponential", "onecycle"])
def test_nothing_falls_below_min_lr(name: str) -> None:
    values = factors(name=name, min_lr=0.05, step_epochs=1.0, gamma=0.5)
    assert min(values) == pytest.approx(0.1)


def test_every_step_counts_not_only_epochs() -> None:
    for name in ("cosine", "linear", "exponential", "onecycle"):
        values = factors(name=name)
        assert len(set(values)) == STEPS or name == "onecycle"
        assert not math.isclose(values[20], values[21])


def test_the_step_of_unfreezing_follows_from_the_epoch(tree: dict[str, Any]) -> None:
    assert make_plan(parse_config(tree), 60, 1).unfreeze_step is None
    cfg = parse_config(changed(tree, model__freeze="backbone", model__unfreeze_epoch=1))
    assert make_plan(cfg, 60, 1).unfreeze_step == 5
