"""Runs that are made longer or shorter: which changes of the rates are refused, and how the schedule goes on."""

import logging
import math
from dataclasses import replace
from typing import Any

import pytest

from dist_train.config import Config, parse_config
from dist_train.config.plan import Plan
from dist_train.config.planning import make_plan
from dist_train.errors import ConfigError
from dist_train.learning.schedule import lr_factor
from dist_train.learning.schedule_length import continued
from tests.support.runs import changed

WAY_OUT = "begin a new run"


@pytest.fixture
def ten(tree: dict[str, Any]) -> dict[str, Any]:
    """5 steps an epoch, 2 epochs."""
    return changed(tree, optim__lr=0.5)


def planned(cfg: Config, starts: tuple[int, ...] = (0,)) -> Plan:
    return replace(make_plan(cfg, 60, 1), schedule_starts=starts)


def go_on(then: dict[str, Any], step: int, starts: tuple[int, ...] = (0,), **now: Any) -> tuple[Config, Plan]:
    before, cfg = planned(parse_config(then), starts), parse_config(changed(then, **now))
    return cfg, continued(cfg, planned(cfg), before, step, WAY_OUT)


def rates(cfg: Config, plan: Plan) -> list[float]:
    return [cfg.optim.lr * lr_factor(cfg.schedule, cfg.optim.lr, plan, step) for step in range(plan.total_steps)]


def cosine(step: int, steps: int) -> float:
    return 0.25 * (1 + math.cos(math.pi * step / steps))


def test_the_same_length_goes_on(ten: dict[str, Any]) -> None:
    cfg, plan = go_on(ten, 4)
    assert plan == planned(cfg)
    cfg, plan = go_on(ten, 7, (0, 6))
    assert plan.schedule_starts == (0, 6), "where the schedule was started again before"


@pytest.mark.parametrize("step", [4, 10])
@pytest.mark.parametrize("name", ["cosine", "linear", "poly", "wsd", "onecycle"])
def test_a_change_of_the_rates_is_refused_with_every_way_out(ten: dict[str, Any], name: str, step: int) -> None:
    with pytest.raises(ConfigError) as refused:
        go_on(changed(ten, schedule__name=name), step, train__epochs=4)
    text = str(refused.value)
    assert text.startswith(
        "`train.epochs` (4) makes the run 20 steps long, and it began with 10: the learning rates of `sched"
    )
    assert f"`schedule.name` {name} depend on the length. With this one, the learning rate of step {step} was " in text
    assert f", that of step {step + 1} is " in text
    for way in (
        "Restore the length",
        "schedule.on_extend=restart (the schedule again, over the 10 new steps)",
        "schedule.on_extend=rescale (one schedule of 20 steps)",
        WAY_OUT,
    ):
        assert way in text


def test_max_steps_is_named_where_it_decides(ten: dict[str, Any]) -> None:
    then = changed(ten, train__epochs=9, train__max_steps=10)
    with pytest.raises(
        ConfigError, match=r"^`train.max_steps` \(14\) makes the run 14 steps long, and it began with 10"
    ):
        go_on(then, 4, train__max_steps=14)
    assert go_on(then, 4, train__epochs=8)[1].total_steps == 10, "the length is the same"


def test_the_jump_is_told_in_figures(ten: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"the learning rate of step 10 was 0\.01224, that of step 11 is 0\.25\."):
        go_on(ten, 10, train__epochs=4)


@pytest.mark.parametrize("length", [{"train__epochs": 1}, {"train__max_steps": 7}, {"train__epochs": 3}])
@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "constant"},
        {"name": "constant", "warmup_epochs": 1.0},
        {"name": "step", "step_epochs": 0.4},
        {"name": "multistep", "milestones": [0.5, 1.5]},
        {"name": "exponential", "gamma": 0.5},
        {"name": "cosine", "min_lr": 0.5},
    ],
)
def test_rates_that_do_not_depend_on_the_length_are_lengthened_and_shortened_freely(
    ten: dict[str, Any], schedule: dict[str, Any], length: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        cfg, plan = go_on(changed(ten, schedule=schedule), 5, **length)
    assert plan == planned(cfg)
    assert f"the run had 10 steps and now has {plan.total_steps}; no learning rate changes" in caplog.text


def test_a_warm_up_that_the_first_length_cut_off_is_a_change(ten: dict[str, Any]) -> None:
    then = changed(ten, schedule={"name": "constant", "warmup_epochs": 2.0}, train__max_steps=4)
    with pytest.raises(ConfigError, match=r"4 steps long|makes the run 10 steps long, and it began with 4"):
        go_on(then, 4, train__max_steps=None)
    with pytest.raises(ConfigError, match=r"makes the run 4 steps long, and it began with 10"):
        go_on(changed(then, train__max_steps=None), 3, train__max_steps=4)


def test_restart_runs_the_schedule_again_over_the_new_steps(
    ten: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The formula of docs/config.md: rate(s) = r(s - T, T' - T) from the old end T on."""
    for step in (4, 10):  # before the old end and at it: the same rates, so an older checkpoint gives the same run
        with caplog.at_level(logging.INFO):
            cfg, plan = go_on(ten, step, train__epochs=5, schedule__on_extend="restart")
        assert rates(cfg, plan) == pytest.approx(
            [cosine(step, 10) for step in range(10)] + [cosine(step, 15) for step in range(15)], abs=1e-12
        )
    assert (
        "the run had 10 steps and now has 25 (`schedule.on_extend`: restart): the learning rate of step 10 "
        in caplog.text
    )
    assert "; the schedule starts again at step 10" in plan.describe()


def test_restart_warms_up_again(ten: dict[str, Any]) -> None:
    cfg, plan = go_on(changed(ten, schedule__warmup_epochs=0.4), 10, train__epochs=3, schedule__on_extend="restart")
    assert rates(cfg, plan)[:3] == rates(cfg, plan)[10:13] == [0.25, 0.5, 0.5]


def test_rescale_is_one_schedule_of_the_new_length(ten: dict[str, Any]) -> None:
    """The formula of docs/config.md: rate(s) = r(s, T')."""
    cfg, plan = go_on(ten, 4, train__epochs=4, schedule__on_extend="rescale")
    assert rates(cfg, plan) == pytest.approx([cosine(step, 20) for step in range(20)], abs=1e-12)
    cfg, plan = go_on(ten, 4, train__epochs=1, schedule__on_extend="rescale")
    assert rates(cfg, plan) == pytest.approx([cosine(step, 5) for step in range(5)], abs=1e-12)


def test_a_run_is_made_longer_again(ten: dict[str, Any]) -> None:
    then = changed(ten, train__epochs=4)
    cfg, plan = go_on(then, 15, (0, 10), train__epochs=6, schedule__on_extend="restart")
    assert plan.schedule_starts == (0, 10, 20)
    cfg, plan = go_on(then, 15, (0, 10), train__epochs=6, schedule__on_extend="rescale")
    assert rates(cfg, plan)[10:] == pytest.approx([cosine(step, 20) for step in range(20)], abs=1e-12)
    cfg, plan = go_on(then, 9, (0, 10), train__epochs=2)
    assert plan == planned(cfg), "back to the first length, before its end"


def test_restart_only_makes_longer(ten: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"set schedule.on_extend=rescale .* because restart can only make a run longer"
    ):
        go_on(ten, 4, train__epochs=1, schedule__on_extend="restart")


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ({"train__epochs": 1}, "`train.epochs` (1) ends the run at step 5, but step 7 is done; use at least train.epochs=2, or"),
        (
            {"train__max_steps": 6},
            "`train.max_steps` (6) ends the run at step 6, but step 7 is done; use at least train.max_steps=7, or",
        ),
        (
            {"train__epochs": 1, "train__max_steps": 3},
            "`train.max_steps` (3) ends the run at step 3, but step 7 is done; use at least train.epochs=2 train.max_steps=7, or",
        ),
        ({"train__epochs": 1, "schedule__name": "constant", "schedule__on_extend": "rescale"}, "but step 7 is done"),
    ],
)  # fmt: skip
def test_a_run_cannot_end_before_the_step_that_is_done(ten: dict[str, Any], length: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        go_on(ten, 7, **length)
    assert words in str(refused.value)
    assert WAY_OUT in str(refused.value)


def test_a_run_may_end_at_the_step_that_is_done(ten: dict[str, Any]) -> None:
    _, plan = go_on(changed(ten, schedule__name="constant"), 7, train__max_steps=7)
    assert plan.total_steps == 7
    with pytest.raises(ConfigError, match=r"the learning rate of step 7 was 0\.1727, and the run ends there"):
        go_on(ten, 7, train__max_steps=7)


def test_rates_of_long_runs_are_compared_in_a_moment(ten: dict[str, Any]) -> None:
    then = changed(ten, train__epochs=10**6)
    with pytest.raises(ConfigError, match="5000005 steps long"):
        go_on(then, 10, train__epochs=10**6 + 1)
