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
            "`distributed.strategy.name` ('horovod') must be one of auto, ddp, dp, fsdp, none, zero2",
        ),
        (
            {"distributed__strategy": "deepspeed"},
            "deepspeed: stages 1 and 2 of ZeRO are zero2 here, and stage 3 is fsdp",
        ),
        (
            {"distributed__strategy": {"name": "ddp", "cpu_offload": True}},
            "cpu_offload (true) needs divided weights, and ddp does not divide them: use fsdp or zero2",
        ),
        ({"distributed__strategy": {"cpu_offload": True}}, "and auto does not divide them"),
        ({"distributed__strategy": {"name": "fsdp", "offload": True}}, "`distributed.strategy.offload` is not a key"),
        ({"distributed__timeout_s": 0}, "`distributed.timeout_s` (0) must be greater than 0; the default is 600"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)


def test_a_strategy_is_a_name_or_a_section(tree: dict[str, Any]) -> None:
    for given, dumped in (
        ("fsdp", "fsdp"),
        ({"name": "fsdp", "cpu_offload": False}, "fsdp"),
        ({"name": "fsdp", "cpu_offload": True}, {"name": "fsdp", "cpu_offload": True}),
    ):
        cfg = parse_config(changed(tree, distributed__strategy=given))
        assert cfg.distributed.strategy.name == "fsdp"
        assert cfg.model_dump(mode="json")["distributed"]["strategy"] == dumped
    assert cfg.distributed.automatic().strategy.name == "auto"
