"""The section `checkpoint`: at least one is kept."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"checkpoint__keep": 0}, "`checkpoint.keep` (0) must be greater than 0; the default is 2"),
        ({"checkpoint__memory": "none"}, "`checkpoint.memory` ('none') must be one of full, low"),
        ({"checkpoint__every_steps": 0}, "`checkpoint.every_steps` (0) must be greater than 0"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
