"""One row adds a loss, a format, a metric or a schedule: its name is known, it trains, and its task is kept."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dist_train.config import parse_config
from dist_train.config.choice_table import Choice, ChoiceTable
from dist_train.config.choices import CLASSES, METRICS, NUMBERS, TABLES, Loss, Metric, falls
from dist_train.config.json_schema import json_schema
from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.base import Listing
from dist_train.data.formats.folders import image_folder
from dist_train.errors import ConfigError
from dist_train.evaluation.metric_functions import Scored
from dist_train.learning.schedule import Moment
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows

HERE = "tests.config.test_choices"


def hinge(outputs: Tensor, targets: Tensor, *, delta: float) -> Tensor:
    right = outputs.gather(1, targets[:, None])
    return (outputs - right + delta).clamp_min(0).mean()


def two_classes(cfg: DataConfig) -> Listing:
    found = image_folder(cfg)
    train, val = (
        [(name, size, target) for name, size, target in split or [] if isinstance(target, int) and target < 2]
        for split in (found.train, found.val)
    )
    return Listing(found.images, found.classes[:2], train, val)


def misses(found: Scored) -> float:
    return 100 - 100 * float(found.in_top1.mean())


def halving(now: Moment, *, gamma: float) -> float:
    return float(gamma**now.step)


@dataclass(frozen=True)
class Added:
    """A row, and a config that uses it."""

    key: str
    name: str
    row: Choice
    override: dict[str, Any]

    @property
    def rows(self) -> dict[str, Any]:
        """The rows of the table in this process: a copy of the table would come to a rank."""
        return next(table.rows for table in TABLES if table.key == self.key)


ADDED = (
    Added("loss.name", "hinge", Loss(f"{HERE}:hinge", CLASSES, reads=("loss.delta",)), {"loss__delta": 0.5}),
    Added("data.format", "two_classes", Choice(f"{HERE}:two_classes", CLASSES), {"train__global_batch": 10}),
    Added("eval.metric", "misses", Metric(f"{HERE}:misses", CLASSES, falls=True), {}),
    Added("schedule.name", "halving", Choice(f"{HERE}:halving", reads=("schedule.gamma",)), {"schedule__gamma": 0.5}),
)


def train_with(added: Added, tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    added.rows[added.name] = added.row
    return main(parse_config(tree))


def config_with(added: Added, tree: dict[str, Any]) -> dict[str, Any]:
    return changed(tree, **{added.key.replace(".", "__"): added.name}, **added.override, log__every_steps=1)


@pytest.mark.parametrize("added", ADDED, ids=lambda added: added.name)
def test_a_row_is_all_that_an_alternative_takes(
    added: Added, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = config_with(added, tree)
    with pytest.raises(ConfigError, match=rf"`{added.key}` \('{added.name}'\) must be one of"):
        parse_config(tree)
    monkeypatch.setitem(added.rows, added.name, added.row)
    parse_config(tree)
    assert f'"{added.name}"' in json.dumps(json_schema())
    assert run_ranks(1, train_with, added, tree) == [0]
    run = folder(tree)
    validation = rows(run, "val")[-1]
    match added.name:
        case "hinge":
            plain = rows(train_again(tree, loss={}), "train")
            assert rows(run, "train")[0]["loss"] != plain[0]["loss"]
        case "two_classes":
            assert json.loads((run / "classes.json").read_text()) == ["class_a", "class_b"]
        case "misses":
            assert validation["misses"] == pytest.approx(100 - validation["top1"])
            best = min(rows(run, "val"), key=lambda row: row["misses"])
            assert json.loads((run / "result.json").read_text())["best"]["misses"] == best["misses"]
        case "halving":
            assert [row["lr"] for row in rows(run, "train")] == [0.05 * 0.5**step for step in range(10)]


def train_again(tree: dict[str, Any], **overrides: Any) -> Path:
    tree = changed(tree, run__name="again", **overrides)
    assert run_ranks(1, _train, tree) == [0]
    return folder(tree)


def _train(tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    return main(parse_config(tree))


def test_the_row_says_which_tasks_it_is_for(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    added = ADDED[0]
    monkeypatch.setitem(added.rows, added.name, added.row)
    numbers = {"data__format": "csv", "data__task": "regression", "eval__metric": "r2"}
    with pytest.raises(ConfigError) as error:
        parse_config(changed(config_with(added, tree), **numbers))
    assert str(error.value) == (
        "`loss.name` (hinge) is not available for regression; use one of: mse, l1, huber, package.module:Class"
    )
    monkeypatch.setitem(added.rows, added.name, Loss(f"{HERE}:hinge", NUMBERS))
    parse_config(changed(tree, **numbers, loss={"name": "hinge"}))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.key)
def test_every_row_names_a_function_and_keys_that_exist(table: ChoiceTable[Any], tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    for name in table.rows:
        assert callable(table.function(name))
    for key in table.read_keys():
        value: Any = cfg
        for part in key.split("."):
            value = getattr(value, part)


def test_directions_of_metrics() -> None:
    assert [name for name in METRICS.rows if falls(name)] == ["loss", "mae", "rmse"]
    assert not falls("unknown")


def test_a_loss_reads_what_its_row_says() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0]]), torch.tensor([0])
    assert hinge(outputs, targets, delta=0.5) == pytest.approx((0.5 + 1.5) / 2)
