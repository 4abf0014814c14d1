"""Learning rates that do not fit together are refused at every start."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"schedule__min_lr": 1.0}, "`schedule.min_lr` (1) is more than `optim.lr` (0.05)"),
        ({"schedule__warmup_epochs": 3.0}, "`schedule.warmup_epochs` (3) is more than `train.epochs` (2)"),
        (
            {"schedule": {"warmup_epochs": 1.0, "warmup_lr": 0.1}},
            "`schedule.warmup_lr` (0.1) is more than `optim.lr` (0.05)",
        ),
        (
            {"schedule": {"warmup_epochs": 0.5, "cooldown_epochs": 1.5}},
            "`schedule.cooldown_epochs` (1.5) and `schedule.warmup_epochs` (0.5) take all of `train.epochs` (2)",
        ),
        (
            {"optim__lr_base": {"rate": 0.1, "batch": 256}},
            "`optim.lr` (0.05) is given, and `optim.lr_base` makes it",
        ),
    ],
)
def test_a_start_with_it_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
