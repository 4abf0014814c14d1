"""The curve as text and as a picture."""

from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from dist_train.inference.rates.report import ROWS, can_draw, draw, table, to_paste
from dist_train.inference.rates.search import Curve
from tests.support.runs import changed

CURVE = Curve(
    [10.0 ** (-7 + number / 10) for number in range(80)], [4.0 - number / 40 for number in range(79)] + [float("nan")]
)


def test_the_table_has_few_rows_the_last_one_and_the_chosen_one() -> None:
    head, *rows = table(CURVE, 1.04e-3)
    assert head.split() == ["rate", "loss", "smoothed"]
    assert ROWS <= len(rows) <= ROWS + 4
    assert [row for row in rows if row.endswith("<- suggested")] == [
        row for row in rows if row.split()[0] == "1.00e-03"
    ]
    assert rows[-1].split() == ["7.94e+00", "nan", "nan"]
    assert len(list(table(CURVE, None))) == len(rows)
    assert len(list(table(Curve([1e-7], [4.0]), None))) == 2


def test_a_rate_by_the_batch_is_replaced(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, optim={"lr_base": 0.1}))
    assert to_paste(cfg, 0.00123) == "optim.lr=0.0012 optim.lr_base=null"
    assert to_paste(parse_config(tree), 0.00123) == "optim.lr=0.0012"


@pytest.mark.parametrize("chosen", [1e-3, None])
def test_a_picture(tmp_path: Path, chosen: float | None) -> None:
    pytest.importorskip("matplotlib")
    can_draw(tmp_path / "new" / "curve.svg")
    draw(tmp_path / "new" / "curve.svg", CURVE, chosen)
    assert "<svg" in (tmp_path / "new" / "curve.svg").read_text()
    with pytest.raises(ConfigError, match="must end in one of"):
        can_draw(tmp_path / "curve.gif")
