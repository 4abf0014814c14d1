"""A function and one row add a loss, format, metric, schedule or head: the examples of docs/extending.md, used in training."""

import importlib
import json
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from dist_train.config import choices, parse_config
from dist_train.config.choice_table import ChoiceTable
from dist_train.config.choices import METRICS, NUMBERS, TABLES, Loss, falls
from dist_train.config.schema import json_schema
from dist_train.config.user_code import function_of
from dist_train.errors import ConfigError
from tests.support.examples import code_below
from tests.support.ranks import run_ranks
from tests.support.runs import changed, folder, rows


@dataclass(frozen=True)
class Example:
    """One of the page's examples, by its heading and name, and a config that uses it."""

    heading: str
    name: str
    key: str
    override: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    def row(self) -> tuple[dict[str, Any], Any]:
        """Return the rows of its table in this process, and the row that the page shows."""
        _, row = code_below("extending.md", self.heading)
        table = next(table for table in TABLES if table.key == self.key)
        return table.rows, eval(f"{{{row}}}", vars(choices))[self.name]

    def install(self) -> None:
        """Put the function into the file that the page names, and the row into its table."""
        function, _ = code_below("extending.md", self.heading)
        path = function.splitlines()[0].removeprefix("# ").removesuffix(".py")
        exec(function, vars(importlib.import_module(path.replace("/", "."))))
        rows_of_table, row = self.row()
        rows_of_table[self.name] = row

    def config(self, tree: dict[str, Any]) -> dict[str, Any]:
        return changed(tree, **{self.key.replace(".", "__"): self.name}, **self.override, log__every_steps=1)


EXAMPLES = (
    Example("A loss", "hinge", "loss.name", {"loss__delta": 0.5}),
    Example("A data format", "two_classes", "data.format", {"train__global_batch": 10}),
    Example("A metric", "misses", "eval.metric", {}),
    Example("A schedule", "halving", "schedule.name", {"schedule__gamma": 0.5}),
    Example("A head", "normed", "model.head.name", {}),
)


def train_with(example: Example, tree: dict[str, Any]) -> int:
    from dist_train.training.attempt import main

    example.install()
    return main(parse_config(tree))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_function_and_a_row_are_all_that_an_alternative_takes(example: Example, tree: dict[str, Any]) -> None:
    tree = example.config(tree)
    assert run_ranks(1, train_with, example, tree) == [0]
    run = folder(tree)
    training, validation = rows(run, "train"), rows(run, "val")
    match example.name:
        case "hinge":
            assert training[0]["loss"] == pytest.approx(0.5, abs=0.1), "a cross-entropy would begin at log(3)"
        case "two_classes":
            assert json.loads((run / "classes.json").read_text()) == ["class_a", "class_b"]
        case "misses":
            assert validation[-1]["misses"] == pytest.approx(100 - validation[-1]["top1"])
            best = json.loads((run / "result.json").read_text())["best"]
            assert best["misses"] == min(row["misses"] for row in validation)
        case "halving":
            assert [row["lr"] for row in training] == [0.05 * 0.5**step for step in range(10)]
        case "normed":
            assert "head.0.weight" in _names_in(run / "last.safetensors")


def _names_in(path: Any) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(file.keys())


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_row_makes_the_name_known(example: Example, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tree = example.config(tree)
    with pytest.raises(ConfigError, match=rf"`{example.key}` \('{example.name}'\) must be one of"):
        parse_config(tree)
    rows_of_table, row = example.row()
    monkeypatch.setitem(rows_of_table, example.name, row)
    parse_config(tree)
    assert f'"{example.name}"' in json.dumps(json_schema())


def test_the_row_says_which_tasks_it_is_for(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of_table, row = EXAMPLES[0].row()
    monkeypatch.setitem(rows_of_table, "hinge", row)
    numbers = {"data__format": "csv", "data__task": "regression", "eval__metric": "r2", "loss__name": "hinge"}
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **numbers))
    assert str(error.value) == (
        "`loss.name` (hinge) is not available for regression; use one of: mse, l1, huber, package.module:Class"
    )
    monkeypatch.setitem(rows_of_table, "hinge", Loss(row.build, NUMBERS))
    parse_config(changed(tree, **numbers))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.key)
def test_every_row_names_a_function_and_keys_that_exist(table: ChoiceTable[Any], tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    for name, row in table.rows.items():
        assert callable(function_of(table, name)) if row.build else name == "auto"
    for key in table.read_keys():
        value: Any = cfg
        for part in key.split("."):
            value = getattr(value, part)


def test_directions_of_metrics() -> None:
    assert [name for name in METRICS.rows if falls(name)] == ["loss", "ece", "mae", "rmse"]
    assert not falls("unknown")


def test_top_k_is_a_metric_for_every_k() -> None:
    assert (METRICS.checked("top7"), METRICS.find("top7").given) == ("top7", {"k": 7})
    with pytest.raises(PydanticCustomError):
        METRICS.checked("top0")
