"""One image per rank and BatchNorm: refused where torch would fail, by arithmetic, and only there."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.inference.config_check import check
from dist_train.training.setup import build_setup
from tests.support.runs import changed, train

RESNET = {"model": {"name": "test_resnet", "pretrained": False}, "data__image_size": 16}
"""Its last maps are 1 x 1 at 16 px."""


@pytest.mark.parametrize(
    ("world_size", "train_section"),
    [(1, {"global_batch": 1}), (2, {"global_batch": 2}), (1, {"global_batch": 4, "micro_batch": 1})],
)
def test_check_refuses_one_value_per_channel(
    tree: dict[str, Any], world_size: int, train_section: dict[str, Any]
) -> None:
    cfg = parse_config(changed(tree, **RESNET, train={"max_steps": 1, **train_section}))
    with pytest.raises(ConfigError, match=r"`train.micro_batch` \(1\): the BatchNorm [\w.]+ would get one") as error:
        check(cfg, world_size)
    assert ("set model.sync_bn=true" in str(error.value)) == (world_size > 1)


def test_a_start_refuses_it_as_well(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, **RESNET, train__global_batch=1))
    with pytest.raises(ConfigError, match="use 2 or more"):
        build_setup(cfg, Dist.alone())


@pytest.mark.parametrize(
    "fitting",
    [
        {"data__image_size": 64},
        {"model": {"name": "test_resnet", "pretrained": False, "freeze": "backbone"}},
        {"model": {"name": "test_vit", "pretrained": False}, "data__image_size": 32},
    ],
    ids=["a larger map", "frozen", "no BatchNorm"],
)
def test_one_image_is_enough_elsewhere(tree: dict[str, Any], fitting: dict[str, Any]) -> None:
    cfg = changed(tree, **(RESNET | fitting), train={"global_batch": 1, "max_steps": 1})
    train(cfg)


def test_one_image_per_rank_is_enough_for_synchronised_batchnorm(tree: dict[str, Any]) -> None:
    model = RESNET["model"] | {"sync_bn": True}  # type: ignore[operator]
    train(tree, 2, **(RESNET | {"model": model}), train={"global_batch": 2, "max_steps": 1})
