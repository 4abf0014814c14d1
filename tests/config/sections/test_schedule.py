"""The section `schedule`: rules of multistep and onecycle."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"schedule": {"name": "multistep"}},
            "milestones is empty: multistep needs the epochs at which the rate drops, such as [30, 60]",
        ),
        (
            {"schedule": {"name": "onecycle", "warmup_epochs": 2.0}},
            "warmup_epochs (2) must be 0: onecycle warms up itself, see pct_start",
        ),
        ({"schedule": {"name": "onecycle", "pct_start": 1.0}}, "`schedule.pct_start` (1.0) must be less than 1"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
