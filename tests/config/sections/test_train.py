"""The section `train`: batches, precision, limits."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train__precision": "int8"}, "`train.precision` ('int8') must be one of fp32, amp_bf16, amp_fp16, fp16"),
        ({"train__ema": 1.0}, "`train.ema.decay` (1.0) must be less than 1"),
        ({"train__ema": {"decay": 0.9, "every": 0}}, "`train.ema.every` (0) must be greater than 0"),
        ({"train__ema": {"warmup": True}}, "`train.ema.decay` is missing"),
        ({"train__clip": "norm"}, "`train.clip.value` ('norm') must be a valid number"),
        ({"train__clip": {"value": 1.0, "mode": "vlaue"}}, "must be one of norm, value, agc; did you mean value?"),
        ({"train__clip": {"value": 1.0, "norm": 2}}, "`train.clip.norm` is not a key: the keys of clip are"),
        ({"train__early_stopping": {}}, "`train.early_stopping.patience` is missing"),
        ({"train__time_limit": "soon"}, "'soon' is not a walltime: write [days-]hours:minutes:seconds"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
