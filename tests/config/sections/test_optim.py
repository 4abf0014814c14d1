"""The section `optim`: rates and momenta."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"optim__betas": [0.9, 1.0]}, "`optim.betas.1` (1.0) must be less than 1"),
        ({"optim__layer_decay": 1.1}, "`optim.layer_decay` (1.1) must be less than or equal to 1"),
        ({"optim__weight_decay": -0.1}, "`optim.weight_decay` (-0.1) must be greater than or equal to 0"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
