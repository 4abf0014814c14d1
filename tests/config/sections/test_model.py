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
        ({"model__unfreeze_epoch": 1}, "unfreeze needs something frozen: set `model.freeze`"),
        ({"model__unfreeze": 3}, "`model.unfreeze`: 3 must map epochs to patterns, such as {2: layer4"),
        ({"model__unfreeze": {0: "layer4"}}, "0: 'layer4' must be a number of epochs, at least 1, and a pattern"),
        ({"model__unfreeze": {"two": "layer4"}}, "'two': 'layer4' must be a number of epochs"),
        ({"model__unfreeze": {2: []}}, "2: () must be a number of epochs"),
        ({"model__unfreeze": {2: [1]}}, "2: (1,) must be a number of epochs"),
        ({"model__unfreeze": {2: "a", "2": "b"}}, "'2': 'b' must be a number of epochs"),
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
