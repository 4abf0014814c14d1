"""Schedules are pure functions of the step, and equal torch's where torch has them."""

import itertools
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from timm.scheduler import CosineLRScheduler, PolyLRScheduler
from timm.scheduler.wsd_lr import WSDLRScheduler
from torch.optim import lr_scheduler

from dist_train.config import parse_config
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.config.sections.schedule import DecayConfig, RestartsConfig, ScheduleConfig
from dist_train.errors import ConfigError
from dist_train.learning.schedule import Moment, lr_factor, refuse_changing
from tests.support.runs import changed, fails

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
        ({"name": "poly", "power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=2.0)),
        (
            {"min_lr": 0.05, "restarts": RestartsConfig(every_epochs=1.0, length_factor=2.0)},
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2, eta_min=0.1),
        ),
        (
            {"warmup_lr": 0.05, "name": "constant", "warmup_epochs": 2.0},
            lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 8),
        ),
        (
            {"name": "onecycle", "pct_start": 0.5},
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, STEPS, pct_start=0.5, cycle_momentum=False),
        ),
    ],
    ids=lambda value: value.get("name", "restarts") if isinstance(value, dict) else "",
)
def test_schedules_are_torchs(schedule: dict[str, Any], make: Any) -> None:
    ours = factors(round(schedule.get("warmup_epochs", 0) * PER_EPOCH), **schedule)
    assert ours == pytest.approx(torchs(make), abs=1e-9)
    assert len(set(ours)) > 2


TIMM = {"t_in_epochs": False, "lr_min": 0.1}
WARM = {"warmup_t": 6, "warmup_lr_init": 0.02}


@pytest.mark.parametrize(
    ("schedule", "warmup", "cooldown", "make"),
    [
        ({}, 6, 0, lambda o: CosineLRScheduler(o, STEPS - 6, **WARM, **TIMM, warmup_prefix=True)),
        ({}, 6, 8, lambda o: CosineLRScheduler(o, STEPS - 14, **WARM, **TIMM, warmup_prefix=True)),
        ({"name": "poly", "power": 0.9}, 6, 8, lambda o: PolyLRScheduler(o, 26, 0.9, **WARM, **TIMM, warmup_prefix=True)),
        ({"name": "wsd", "decay": DecayConfig(share=0.5)}, 6, 8, lambda o: WSDLRScheduler(o, 26, 13, **WARM, **TIMM)),
        (
            {"name": "wsd", "decay": DecayConfig(share=10 / 34, shape="linear")}, 6, 0,
            lambda o: WSDLRScheduler(o, 34, 10, decay_fn="linear", **WARM, **TIMM),
        ),
        (
            {"name": "wsd", "decay": DecayConfig(share=1.0, shape="cosine")}, 0, 0,
            lambda o: WSDLRScheduler(o, STEPS, STEPS, decay_fn="cosine", **TIMM),
        ),
        (
            {"restarts": RestartsConfig(every_epochs=2.0, peak_factor=0.8)}, 6, 0,
            lambda o: CosineLRScheduler(o, 8, **WARM, **TIMM, warmup_prefix=True, cycle_decay=0.8, cycle_limit=99),
        ),
        (
            {"name": "poly", "restarts": RestartsConfig(every_epochs=0.5, length_factor=3.0, peak_factor=0.7)}, 0, 0,
            lambda o: PolyLRScheduler(o, 2, 0.9, **TIMM, cycle_mul=3.0, cycle_decay=0.7, cycle_limit=99),
        ),
    ],
)  # fmt: skip
def test_schedules_are_timms(schedule: dict[str, Any], warmup: int, cooldown: int, make: Any) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    timms, values = make(optimizer), []
    for step in range(STEPS):
        timms.step_update(step)
        values.append(optimizer.param_groups[0]["lr"])
    cfg = ScheduleConfig(min_lr=0.05, warmup_lr=0.01, **schedule)
    plan_of_run = replace(plan(warmup), cooldown_steps=cooldown)
    assert [lr_factor(cfg, 0.5, plan_of_run, step) for step in range(STEPS)] == pytest.approx(values, abs=1e-9)
    assert len(set(values)) > 2


def test_the_floor_holds_where_cycles_peak_below_it() -> None:
    low = factors(min_lr=0.4, restarts=RestartsConfig(every_epochs=1.0, peak_factor=0.1))
    assert low[4:] == pytest.approx([0.8] * (STEPS - 4))


def sawtooth(now: Moment, every: int = 4) -> float:
    return 1 - now.step % every / every


def test_a_function_of_your_own(tree: dict[str, Any]) -> None:
    name = f"{__name__}:sawtooth"
    assert factors(name=name, options={"every": 8})[:9] == [1 - step / 8 for step in range(8)] + [1]
    cfg = parse_config(changed(tree, schedule={"name": name, "options": {"every": 2}, "warmup_epochs": 0.4}))
    made = make_plan(cfg, 60, 1)
    refuse_changing(cfg.schedule, cfg.optim.lr, made)
    assert [lr_factor(cfg.schedule, 0.5, made, step) for step in range(5)] == [0.5, 1.0, 1.0, 0.5, 1.0]


CALLS = itertools.count()


def counts(now: Moment) -> float:
    return 1 / (1 + next(CALLS))


def below_zero(now: Moment) -> float:
    return 0.5 - now.done


def infinite(now: Moment) -> float:
    return math.inf if now.step == 7 else 1.0


def words(now: Moment) -> str:
    return "fast"


def asks_for_more(now: Moment, much: float) -> float:
    return much


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (counts, "when it is called again: a resumed run would train with other rates"),
        (below_zero, r"returns -0.025\d* at step 21; it must return a finite factor"),
        (infinite, "returns inf at step 7"),
        (words, "fails at step 0: could not convert string to float"),
        (asks_for_more, r"fails at step 0: .* missing 1 required positional argument: 'much'"),
    ],
)
def test_a_function_that_changes_is_refused(function: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        refuse_changing(ScheduleConfig(name=f"{__name__}:{function.__name__}"), 0.5, plan())


def test_a_changing_function_is_refused_before_the_first_step(tree: dict[str, Any], capsys: Any) -> None:
    tree = changed(tree, schedule__name=f"{__name__}:counts")
    assert "when it is called again" in fails(tree, capsys)


@pytest.mark.parametrize("name", ["cosine", "constant", "linear", "exponential", "poly", "wsd"])
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
    assert make_plan(parse_config(tree), 60, 1).unfreeze_steps == ()
    cfg = parse_config(changed(tree, model__freeze="backbone", model__unfreeze={2: "all", 1: "norm"}, train__epochs=3))
    assert make_plan(cfg, 60, 1).unfreeze_steps == (5, 10)
