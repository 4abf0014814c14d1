"""The section `loss`: names and factors."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"loss__name": "hinge"}, "`loss.name` ('hinge') must be one of cross_entropy, focal"),
        ({"loss__name": "my:own:loss"}, "`loss.name` ('my:own:loss') must be one of"),
        ({"loss__class_weights": {"a": -1.0}}, "`loss.class_weights.a` (-1.0) must be greater than or equal to 0"),
        ({"loss__label_smoothing": 1.0}, "`loss.label_smoothing` (1.0) must be less than 1"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
