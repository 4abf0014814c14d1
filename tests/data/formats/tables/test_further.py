"""Further columns of the training table."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.config.sections.data import DataConfig
from dist_train.data.formats.tables.further import column_names, columns_of
from dist_train.data.formats.tables.rows import Table
from dist_train.errors import DataError
from tests.support.photo_tables import in_columns
from tests.support.runs import changed


@pytest.fixture
def cfg(tree: dict[str, Any]) -> DataConfig:
    keys: dict[str, Any] = {"data__csv": {"group": "g"}, "data__sampling": {"column": "w"}}
    return parse_config(changed(tree, data__format="csv", **keys)).data


def table(groups: list[str], weights: list[str]) -> Table:
    paths = [f"{number}.png" for number in range(len(groups))]
    return in_columns(paths, ["cat"] * len(groups), further=[groups, weights])


def test_columns_by_the_names_of_the_images(tree: dict[str, Any], cfg: DataConfig) -> None:
    assert column_names(parse_config(tree).data) == {}
    assert columns_of(parse_config(tree).data, ["0.png"], in_columns(["0.png"], ["cat"])) == {}
    assert column_names(cfg) == {"group": "g", "sampling": "w"}
    found = columns_of(cfg, ["one.png", "two.png"], table(["p1", "p2"], ["0.5", "3"]))
    assert found == {"group": {"one.png": "p1", "two.png": "p2"}, "sampling": {"one.png": "0.5", "two.png": "3"}}


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "much", "1,5"])
def test_a_weight_is_a_number_of_at_least_0(cfg: DataConfig, text: str) -> None:
    with pytest.raises(DataError, match=rf"t.csv line 3 has '{text}' in the column w"):
        columns_of(cfg, ["a", "b", "c"], table(["p"] * 3, ["1", text, "-7"]))


def test_a_missing_value_is_refused_in_the_order_of_the_lines(cfg: DataConfig) -> None:
    with pytest.raises(DataError, match=r"t.csv line 3 has no value in the column w; fill it in"):
        columns_of(cfg, ["a", "b", "c"], table(["p", "p", ""], ["1", "", "1"]))
    with pytest.raises(DataError, match=r"t.csv line 4 has no value in the column g; fill it in"):
        columns_of(cfg, ["a", "b", "c"], table(["p", "p", ""], ["1", "1", "1"]))


def test_lines_that_repeat_an_image_have_the_same_values(cfg: DataConfig) -> None:
    names = ["a", "b", "a"]
    assert columns_of(cfg, names, table(["p", "q", "p"], ["1", "2", "1"])) == {
        "group": {"a": "p", "b": "q"}, "sampling": {"a": "1", "b": "2"},
    }  # fmt: skip
    with pytest.raises(
        DataError, match=r"line 4 has 1.0 in the column w, and an earlier line of the same image has 1;"
    ):
        columns_of(cfg, names, table(["p", "q", "p"], ["1", "2", "1.0"]))
