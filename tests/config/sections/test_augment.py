"""The section `augment`: ranges and probabilities."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"augment__crop_scale": [0.9, 0.1]}, "0.9 is more than 0.1: write the smaller bound first"),
        ({"augment__hflip": 1.5}, "`augment.hflip` (1.5) must be less than or equal to 1"),
        (
            {"augment__randaugment": {"magnitude": 31}},
            "`augment.randaugment.magnitude` (31) must be less than or equal to 30",
        ),
        (
            {"augment__randaugment": {"fill": [0, 0, 256]}},
            "`augment.randaugment.fill.2` (256) must be less than or equal to 255",
        ),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)


def test_randaugment_is_off_or_has_defaults(tree: dict[str, Any]) -> None:
    assert parse_config(tree).augment.randaugment is None
    found = parse_config(changed(tree, augment__randaugment={})).augment.randaugment
    assert found is not None
    assert (found.num_ops, found.magnitude) == (2, 9)
