"""The section `model`: freezing needs patterns, unfreezing needs freezing."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"model__freeze": "layer1"}, "`model.freeze`: 'layer1' must be none, backbone, or a list of patterns"),
        ({"model__freeze": []}, "`model.freeze`: () must be none, backbone, or a list of patterns"),
        ({"model__unfreeze_epoch": 1}, "unfreeze_epoch (1) needs something frozen: set `model.freeze`"),
        ({"model__head": {"hidden": []}}, "`model.head.hidden` ([]) must have at least 1 item"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)


def test_what_can_be_frozen(tree: dict[str, Any]) -> None:
    for value, kept in (
        ("none", "none"),
        ("backbone", "backbone"),
        (["layer1.*", "type:Conv2d"], ("layer1.*", "type:Conv2d")),
    ):
        assert parse_config(changed(tree, model__freeze=value)).model.freeze == kept
