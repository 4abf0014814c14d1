"""The section `run`: names of folders."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"run__name": "../other"}, "`run.name` ('../other') must begin with a letter or digit"),
        ({"run__resume": "yes"}, "`run.resume` ('yes') must be one of auto, must, never"),
        ({"run__seed": -1}, "`run.seed` (-1) must be greater than or equal to 0"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
