"""A config or checkpoint of an older version keeps its meaning."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_train.config import load_config, parse_config
from dist_train.config.rules import migrations
from dist_train.config.rules.migrations import Migration, migrated
from dist_train.config.rules.resume_keys import arithmetic, changed_keys, migrated_values
from dist_train.config.sections.train import ClipConfig, EmaConfig
from dist_train.errors import ConfigError
from tests.support.runs import changed

OLD_RUNS = sorted((Path(__file__).parents[2] / "old_runs" / "folders").glob("*/config.yaml"))


@pytest.fixture
def a_later_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version in which one key was renamed, one re-typed, one removed, and two were added."""
    steps = (
        Migration("9.0.0", "optim.speed", "optim.lr"),
        Migration("9.0.0", "augment.flip", "augment.hflip", lambda on: 0.5 if on else 0.0),
        Migration("9.0.0", "eval.weights", "eval.weights", lambda value: {"averaged": "ema"}.get(value, value)),
        Migration("9.0.0", "loss.scale", None),
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(migrations, "BEFORE", {"optim.momentum": 0.5, "loss.class_balance.power": 0.5})


OLD = {"optim.speed": 0.05, "augment.flip": False, "eval.weights": "averaged", "loss.scale": 2}


def old(tree: dict[str, Any]) -> dict[str, Any]:
    """``tree`` as the older version would write it."""
    tree = changed(tree, **{key.replace(".", "__"): value for key, value in OLD.items()})
    del tree["optim"]["lr"]
    return tree


@pytest.mark.usefixtures("a_later_version")
def test_an_old_config_is_read_under_todays_names(tree: dict[str, Any]) -> None:
    cfg = parse_config(old(tree))
    assert (cfg.optim.lr, cfg.augment.hflip, cfg.eval.weights) == (0.05, 0.0, "ema")
    assert cfg.optim.momentum == 0.9, "in a config that a user writes, a missing key means today's default"


@pytest.mark.usefixtures("a_later_version")
def test_a_run_that_lacks_a_key_behaves_as_then(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed(old(tree), loss__class_balance={"name": "balanced"})))
    cfg = load_config(tmp_path / "config.yaml", of_a_run=True)
    assert cfg.optim.momentum == 0.5
    assert cfg.loss.class_balance is not None
    assert (cfg.loss.class_balance.name, cfg.loss.class_balance.power) == ("balanced", 0.5)
    off = parse_config(changed(old(tree), loss__class_balance=None), of_a_run=True)
    assert off.loss.class_balance is None, "a section that is switched off stays off"
    again = load_config(tmp_path / "config.yaml", ["optim.lr=0.1", "optim.momentum=0.2"], of_a_run=True)
    assert (again.optim.lr, again.optim.momentum) == (0.1, 0.2), "overrides have today's names"


@pytest.mark.usefixtures("a_later_version")
def test_a_checkpoint_is_compared_under_todays_names(tree: dict[str, Any]) -> None:
    now = arithmetic(parse_config(changed(tree, augment__hflip=0.0, loss__class_balance="balanced")))
    then = {key: value for key, value in now.items() if key not in ("optim.lr", "augment.hflip", "optim.momentum")}
    then |= OLD | {"loss.class_balance": {**now["loss.class_balance"]}}
    del then["loss.class_balance"]["power"]
    assert list(changed_keys(then, now).values()) == [
        "`loss.class_balance` was {'name': 'balanced', 'beta': 0.9999, 'power': 0.5} and is "
        "now {'name': 'balanced', 'power': 1.0, 'beta': 0.9999}",
        "`optim.momentum` was 0.5 and is now 0.9",
    ]


@pytest.mark.usefixtures("a_later_version")
def test_an_old_and_a_new_name_together_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"`optim.speed` is called `optim.lr` since 9.0.0, but both are given; remove"
    ):
        parse_config(changed(tree, optim__speed=0.1))


def test_nothing_is_changed_in_place(tree: dict[str, Any]) -> None:
    before = changed(tree)
    migrated(tree, of_a_run=True)
    assert tree == before


@pytest.mark.parametrize("path", OLD_RUNS, ids=lambda path: path.parent.name)
def test_what_runs_of_0_1_0_have_recorded_can_be_read(path: Path) -> None:
    cfg = load_config(path, of_a_run=True)
    values = arithmetic(cfg)
    assert changed_keys(migrated_values(values), values) == {}


def test_a_run_from_before_the_key_keeps_the_heads_init_of_then(tree: dict[str, Any]) -> None:
    assert parse_config(tree).model.head.init == "zeros"
    assert parse_config(tree, of_a_run=True).model.head.init == "timm"
    now = arithmetic(parse_config(tree))
    then = {key: value for key, value in now.items() if key != "model.head.init"}
    assert migrated_values(then)["model.head.init"] == "timm"
    assert not changed_keys(then, now), "the same config continues it: its checkpoint replaces the first weights"
    assert changed_keys(now | {"model.head.init": "timm"}, now), "of a run that had the key it is compared"


def test_keys_of_0_1_0_that_have_become_mappings(tree: dict[str, Any]) -> None:
    then = {"model.freeze": "backbone", "model.unfreeze_epoch": 1, "train.clip_grad": 2.0, "train.ema": 0.9}
    old = changed(tree, **{key.replace(".", "__"): value for key, value in then.items()})
    cfg = parse_config(old)
    assert (cfg.model.unfreeze, cfg.train.clip, cfg.train.ema) == (
        {1: ("all",)},
        ClipConfig(value=2.0),
        EmaConfig(decay=0.9),
    )
    now = arithmetic(cfg)
    recorded = {key: value for key, value in now.items() if key not in ("model.unfreeze", "train.clip", "train.ema")}
    assert not changed_keys(recorded | then, now)
    assert set(changed_keys(recorded | then | {"train.clip_grad": None}, now)) == {"train.clip"}
    again = parse_config(cfg.model_dump(mode="json"), of_a_run=True)
    assert again == cfg
    assert cfg.model_dump()["train"]["ema"] == 0.9, "one value is written as one"
