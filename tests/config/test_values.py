"""Config values by dotted key."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.schema import Config
from dist_train.config.values import every_key, is_set, set_value, value_of
from tests.support.runs import changed


def test_every_key_by_its_full_name() -> None:
    keys = list(every_key(Config))
    assert {"run.seed", "model.head.hidden", "data.csv.targets", "train.early_stopping", "log.wandb.mode"} <= set(keys)
    assert len(keys) == len(set(keys)) > 100
    assert "data.csv" not in keys, "a section is not a key"
    assert "train.early_stopping.patience" not in keys, "a section that may be absent is one key"


def test_a_value_by_its_key() -> None:
    tree: dict[str, Any] = {"a": {"b": 1}}
    assert value_of(tree, "a.b") == 1
    set_value(tree, "c.d.e", 2)
    assert tree == {"a": {"b": 1}, "c": {"d": {"e": 2}}}
    for missing in ("a.x", "a.b.c", "x.y"):
        with pytest.raises(KeyError):
            value_of(tree, missing)


def test_what_the_user_has_set(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, optim__momentum=0.9, optim__nesterov=True, data__csv={"separator": ";"}))
    assert not is_set(cfg, "optim.momentum"), "the default, spelt out"
    assert is_set(cfg, "optim.nesterov")
    assert is_set(cfg, "data.csv")
    assert is_set(cfg, "data.csv.separator")
    assert not is_set(cfg, "optim.alpha")
