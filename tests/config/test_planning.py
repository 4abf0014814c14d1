"""Arithmetic: batches, cadences and derived seeds."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.errors import ConfigError, DataError
from dist_train.seeding import fold_in
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("world", "micro", "expected"),
    [(1, None, (12, 1)), (2, None, (6, 1)), (3, 2, (2, 2)), (1, 3, (3, 4)), (4, 3, (3, 1))],
)
def test_the_global_batch_is_the_true_batch_of_a_step(
    tree: dict[str, Any], world: int, micro: int | None, expected: tuple[int, int]
) -> None:
    plan = make_plan(parse_config(changed(tree, train__micro_batch=micro)), 60, world)
    assert (plan.micro_batch, plan.accumulate) == expected
    assert plan.micro_batch * plan.accumulate * world == plan.global_batch == 12


@pytest.mark.parametrize(
    ("overrides", "world", "words"),
    [
        (
            {"train__global_batch": 100, "train__micro_batch": 8},
            3,
            "`train.global_batch` (100) must be a multiple of micro_batch x world_size (8 x 3 = 24); use 96 or 120",
        ),
        ({"train__global_batch": 4}, 8, "must be a multiple of the world size (8); use 8"),
        ({"train__micro_batch": 3, "augment__mixup": 0.8}, 1, "`train.micro_batch` (3) must be even"),
    ],
)
def test_a_batch_that_cannot_be_dealt_out_is_refused(
    tree: dict[str, Any], overrides: dict[str, Any], world: int, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        make_plan(parse_config(changed(tree, **overrides)), 600, world)
    assert words in str(error.value)


def test_fewer_images_than_a_batch_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(
        DataError, match=r"has 11 training images, fewer than one `train\.global_batch` \(12\); lower it to at most 11"
    ):
        make_plan(parse_config(tree), 11, 1)


def test_steps_and_cadences(tree: dict[str, Any]) -> None:
    plan = make_plan(
        parse_config(changed(tree, schedule__warmup_epochs=0.5, eval__every_epochs=2, train__epochs=5)), 65, 1
    )
    assert (plan.steps_per_epoch, plan.total_steps, plan.warmup_steps) == (5, 25, 2)
    assert (plan.eval_every_steps, plan.save_every_steps) == (10, 5)
    assert [step for step in range(26) if plan.due(step, 10)] == [10, 20, 25]
    capped = make_plan(parse_config(changed(tree, train__max_steps=7)), 65, 1)
    assert capped.total_steps == 7
    assert "5 of 65 images left out of each epoch" in plan.describe()


@pytest.mark.parametrize(
    ("images", "every"),
    [(24, 1), (240, 2), (6000, 50), (1_200_000, 50)],
)
def test_rows_of_metrics_fit_the_length_of_an_epoch(tree: dict[str, Any], images: int, every: int) -> None:
    tree["log"].pop("every_steps")
    cfg = parse_config(tree)
    assert make_plan(cfg, images, 1).log_every_steps == every
    assert make_plan(cfg, images, 4).log_every_steps == every, "a resume on other ranks keeps it"
    longer = parse_config(changed(tree, train__epochs=9))
    assert make_plan(longer, images, 1).log_every_steps == every, "and so does a longer run"
    given = parse_config(changed(tree, log__every_steps=7))
    assert make_plan(given, images, 1).log_every_steps == 7


def test_a_loss_of_the_whole_batch_is_not_cut(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, loss__name="soft_f1", train__micro_batch=3))
    with pytest.raises(
        ConfigError, match=r"`loss.name` \(soft_f1\) is computed over the whole .* use train.micro_batch=6"
    ):
        make_plan(cfg, 60, 2)
    make_plan(parse_config(changed(tree, loss__name="soft_f1", train__micro_batch=6)), 60, 2)


def test_folded_seeds_are_stable_and_distinct() -> None:
    assert fold_in(0, "sample", 1, 2) == 3589256729514015514, "a changed hash would break every resume"
    seeds = {
        fold_in(seed, name, a, b) for seed in range(3) for name in ("x", "y") for a in range(20) for b in range(20)
    }
    assert len(seeds) == 3 * 2 * 20 * 20
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("value", "pause", "evaluate"), [(True, 3, 3), (7, 7, 7), (10, None, 10), (99, None, 99), (False, None, 5)]
)
def test_a_trial_keeps_the_length_of_the_run(
    tree: dict[str, Any], value: bool | int, pause: int | None, evaluate: int
) -> None:
    """So no key in epochs or steps is refused or has another meaning."""
    cfg = parse_config(changed(tree, train__fast_dev_run=value, train__pause_epoch=None, eval__every_epochs=1))
    plan = make_plan(cfg, train_images=60, world_size=1)
    assert (plan.total_steps, plan.pause_step, plan.eval_every_steps) == (10, pause, evaluate)


@pytest.mark.parametrize("value", [0, -1, 1.5, "yes", None])
def test_a_trial_has_a_number_of_steps(tree: dict[str, Any], value: Any) -> None:
    with pytest.raises(ConfigError, match=r"`train\.fast_dev_run` \("):
        parse_config(changed(tree, train__fast_dev_run=value))
