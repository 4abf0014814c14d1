"""What `train.cached_features` refuses, key by key."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed

WRONG: dict[str, Any] = {
    "model__freeze": ["blocks.0"],
    "model__unfreeze": {"1": "all"},
    "model__drop_path": 0.1,
    "model__compile": True,
    "augment__device": True,
    "augment__crop": "random_resized",
    "augment__hflip": 0.5,
    "augment__ops": ["randaugment"],
    "augment__erasing": 0.1,
    "augment__mixup": 0.2,
    "augment__cutmix": 1.0,
    "data__bad_images": "skip",
    "train__precision": "fp16",
    "loss__objective": "my.code:Objective",
}
PLAIN = {"model__freeze": "backbone", "train__cached_features": True, "augment": {"crop": "squash", "hflip": 0}}


def test_a_frozen_backbone_without_augmentation_may_be_cached(tree: dict[str, Any]) -> None:
    assert parse_config(changed(tree, **PLAIN)).train.cached_features


@pytest.mark.parametrize("key", WRONG)
def test_what_changes_features_is_refused(tree: dict[str, Any], key: str) -> None:
    name = key.replace("__", ".")
    with pytest.raises(ConfigError, match=rf"`train.cached_features` \(true\).*`{name}` is") as refused:
        parse_config(changed(changed(tree, **PLAIN), **{key: WRONG[key]}))
    assert f"set {name}=" in str(refused.value)
    parse_config(changed(changed(tree, **PLAIN), train__cached_features=False))
