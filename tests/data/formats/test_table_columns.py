"""Further columns of the training table."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.data.formats.table_columns import column_names, columns_of
from dist_train.data.formats.table_file import Row
from dist_train.errors import DataError
from tests.support.runs import changed


def rows(*further: tuple[str, str]) -> list[tuple[str, Row]]:
    return [
        (f"{line}.png", Row(Path("t.csv"), line, f"{line}.png", ("cat",), texts))
        for line, texts in enumerate(further, 2)
    ]


def test_columns_by_the_names_of_the_images(tree: dict[str, Any]) -> None:
    assert column_names(parse_config(tree).data) == {}
    assert columns_of(parse_config(tree).data, [("a.png", Row(Path("t.csv"), 2, "a.png", ("cat",)))]) == {}
    cfg = parse_config(changed(tree, data__format="csv", data__csv={"group": "g"}, data__sampling={"column": "w"})).data
    assert column_names(cfg) == {"group": "g", "sampling": "w"}
    found = columns_of(cfg, rows(("p1", "0.5"), ("p2", "3")))
    assert found == {"group": {"2.png": "p1", "3.png": "p2"}, "sampling": {"2.png": "0.5", "3.png": "3"}}


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "much", "1,5"])
def test_a_weight_is_a_number_of_at_least_0(tree: dict[str, Any], text: str) -> None:
    cfg = parse_config(changed(tree, data__format="csv", data__csv={"group": "g"}, data__sampling={"column": "w"})).data
    with pytest.raises(DataError, match=rf"t.csv line 2 has '{text}' in the column w"):
        columns_of(cfg, rows(("p", text)))
