"""The section `log`: intervals of rows, names in W&B."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"log__every_steps": 0}, "`log.every_steps` (0) must be greater than 0"),
        ({"log__wandb": {"project": "a/b"}}, "`log.wandb.project` ('a/b') must"),
        ({"log__wandb": {"tags": [""]}}, "`log.wandb.tags.0` ('') must have at least 1 character"),
        ({"log__mlflow": {"uri": " "}}, "`log.mlflow.uri`: ' ' must be an address or a folder"),
        ({"log__mlflow": {"uri": "http://me:secret@host"}}, "must not hold a password, which config.yaml would keep"),
        ({"log__mlflow": {"tags": {"a=b": "c"}}}, "`log.mlflow.tags"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
