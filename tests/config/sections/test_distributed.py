"""The section `distributed`: strategies and the timeout."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            {"distributed__strategy": "horovod"},
            "`distributed.strategy` ('horovod') must be one of auto, ddp, dp, fsdp, none, zero2",
        ),
        (
            {"distributed__strategy": "deepspeed"},
            "deepspeed: stages 1 and 2 of ZeRO are zero2 here, and stage 3 is fsdp",
        ),
        ({"distributed__timeout_s": 0}, "`distributed.timeout_s` (0) must be greater than 0; the default is 600"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)
