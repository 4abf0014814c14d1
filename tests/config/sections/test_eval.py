"""The section `eval`: intervals and metric."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"eval__metric": "f2"},
            "`eval.metric` ('f2') must be one of loss, top1, top5, map, macro_f1, auroc, precision, recall, ",
        ),
        ({"eval__metrics": ["auc"]}, "('auc') must be one of loss, top1,"),
        (
            {"eval__metrics": ["mae"]},
            "`eval.metrics` (mae) is not available for classification; use one of: loss, top1",
        ),
        ({"eval__crop": "letterbox"}, "`eval.crop` ('letterbox') must be one of published, auto, center, squash, pad"),
        ({"eval__weights": "swa"}, "`eval.weights` ('swa') must be one of ema, raw"),
        ({"eval__every_steps": 0}, "`eval.every_steps` (0) must be greater than 0"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
