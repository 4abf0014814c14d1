"""Every key stands in one of two tables; a checkpoint of 0.1.0 is compared with its own defaults."""

import json
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.rules.migrations import BEFORE, MIGRATIONS
from dist_train.config.rules.old_augment import OLD_KEYS
from dist_train.config.rules.resume_keys import (
    CHANGE_THE_WEIGHTS,
    DO_NOT_CHANGE_THE_WEIGHTS,
    OTHER_ROUNDING,
    arithmetic,
    changed_keys,
)
from dist_train.config.schema import Config
from dist_train.config.values import every_key
from tests.support.runs import changed

MANIFEST = next((Path(__file__).parents[2] / "old_runs" / "folders" / "done").rglob("manifest.json"))


def test_every_key_stands_in_exactly_one_table() -> None:
    both = [*CHANGE_THE_WEIGHTS, *DO_NOT_CHANGE_THE_WEIGHTS]
    assert len(both) == len(set(both)), "a key in both tables, or twice"
    assert set(every_key(Config)) - set(both) == set(), "keys in neither table"
    assert set(both) - set(every_key(Config)) == set(), "entries that are no key"
    assert set(OTHER_ROUNDING) <= set(CHANGE_THE_WEIGHTS)


def test_a_key_that_0_1_0_did_not_compare_has_a_value_of_then() -> None:
    then = set(json.loads(MANIFEST.read_text())["config"])
    new = set(CHANGE_THE_WEIGHTS) - then - {step.new for step in MIGRATIONS}
    assert new <= BEFORE.keys(), "add a row to migrations.BEFORE: what the code did before the key was there"
    gone = then - set(CHANGE_THE_WEIGHTS)
    assert gone <= {step.old for step in MIGRATIONS} | OLD_KEYS, "add a row to MIGRATIONS: what became of the key"
    assert set(BEFORE) <= set(every_key(Config))


def test_arithmetic_leaves_out_what_may_change_on_a_resume(tree: dict[str, Any]) -> None:
    base = arithmetic(parse_config(tree))
    for same in (
        {"data__workers": 3},
        {"data__workers": None},
        {"train__epochs": 9},
        {"log__every_steps": 7},
        {"distributed__timeout_s": 9},
        {"distributed__strategy": "none"},
        {"distributed__strategy": "ddp"},
    ):
        assert arithmetic(parse_config(changed(tree, **same))) == base
    for other in (
        {"optim__lr": 0.1},
        {"run__seed": 1},
        {"augment__hflip": 0.0},
        {"model__name": "x"},
        {"train__global_batch": 6},
        {"distributed__strategy": "fsdp"},
    ):
        (line,) = changed_keys(base, arithmetic(parse_config(changed(tree, **other)))).values()
        assert next(iter(other)).replace("__", ".") in line


@pytest.mark.parametrize(
    ("then", "now", "key"),
    [
        ({}, {"augment__ops": ["vflip"]}, "augment.ops"),
        ({"augment__ops": ["vflip"]}, {}, "augment.ops"),
        ({}, {"loss__class_weights": {"a": 2.0}}, "loss.class_weights"),
        ({"loss__class_weights": {"a": 2.0}}, {"loss__class_weights": {"b": 2.0}}, "loss.class_weights"),
        ({"loss__name": "m:L"}, {"loss__name": "m:L", "loss__options": {"x": 1}}, "loss.options"),
    ],
)
def test_what_comes_or_goes_as_a_whole_is_one_key(
    tree: dict[str, Any], then: dict[str, Any], now: dict[str, Any], key: str
) -> None:
    before, after = arithmetic(parse_config(changed(tree, **then))), arithmetic(parse_config(changed(tree, **now)))
    assert before.keys() == after.keys()
    (line,) = changed_keys(before, after).values()
    assert line.startswith(f"`{key}` was ")


def test_a_key_that_one_side_lacks_counts_as_not_given(tree: dict[str, Any]) -> None:
    base = arithmetic(parse_config(tree))
    assert changed_keys(base, base | {"given.model": None}) == {}
    assert list(changed_keys(base, base | {"given.model": "m:Net"}).values()) == [
        "`given.model` was None and is now 'm:Net'"
    ]
    assert list(changed_keys(base | {"given.model": "m:Net"}, base).values()) == [
        "`given.model` was 'm:Net' and is now None"
    ]
