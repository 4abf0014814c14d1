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
            "`augment.ops.0`: randaugment: `magnitude` (31) must be less than or equal to 30",
        ),
        (
            {"augment__randaugment": {"fill": [0, 0, 256]}},
            "`augment.ops.0`: randaugment: `fill.2` (256) must be less than or equal to 255",
        ),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)


def test_values_of_mixing_and_repeats(tree: dict[str, Any]) -> None:
    cfg = parse_config(
        changed(tree, augment__mix_mode="pair", augment__cutmix_minmax=[0.2, 0.8], augment__repeats=3)
    ).augment
    assert (cfg.mix_mode, cfg.cutmix_minmax, cfg.repeats, cfg.mix_off_epoch) == ("pair", (0.2, 0.8), 3, None)
    for key, value in {"mix_mode": "row", "repeats": 0, "mix_off_epoch": 0, "cutmix_minmax": [0.8, 0.2]}.items():
        with pytest.raises(ConfigError, match=f"`augment.{key}`"):
            parse_config(changed(tree, **{f"augment__{key}": value}))
