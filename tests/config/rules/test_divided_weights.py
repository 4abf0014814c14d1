"""What needs whole weights is refused, and all else is not."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"train__clip": {"mode": "agc", "value": 0.1}}, "`train.clip.mode` (agc)"),
    ({"optim__name": "lamb"}, "`optim.name` (lamb)"),
    ({"model__compile": True}, "`model.compile`"),
    ({"model__channels_last": True}, "`model.channels_last` (true)"),
    ({"train__precision": "fp16"}, "`train.precision` (fp16)"),
    (
        {"train__cached_features": True, "model__freeze": "backbone", "augment": {"crop": "squash", "hflip": 0}},
        "`train.cached_features` (true)",
    ),
    ({"train__micro_batch": "auto"}, "`train.micro_batch` (auto)"),
    (
        {"loss__objective": "tests.support.objectives:Projection"},
        "`loss.objective` (tests.support.objectives:Projection)",
    ),
    ({"distributed__gradient_dtype": "bf16"}, "`distributed.gradient_dtype` (bf16)"),
    ({"distributed__unused_parameters": "allow"}, "`distributed.unused_parameters` (allow)"),
]


@pytest.mark.parametrize(("override", "key"), REFUSED)
def test_what_needs_whole_weights_is_refused(tree: dict[str, Any], override: dict[str, Any], key: str) -> None:
    parse_config(changed(tree, distributed__strategy="auto", **override))
    with pytest.raises(ConfigError) as error:
        parse_config(changed(changed(tree, distributed__strategy="fsdp"), **override))
    assert f"{key} does not work with `distributed.strategy` (fsdp): " in str(error.value)


def test_the_strategy_is_named(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"does not work with `distributed.strategy` \(zero2\)"):
        parse_config(changed(tree, distributed__strategy="zero2", model__channels_last=True))


@pytest.mark.parametrize(
    "override",
    [
        {"train__clip": {"mode": "norm", "value": 1.0}},
        {"train__clip": {"mode": "value", "value": 1.0}},
        {"model__compile": {"blocks": True}},
        {"model__freeze": "backbone", "model__unfreeze": {1: "all"}},
        {"loss__distill": {"teacher": "resnet18.a1_in1k"}},
        {"train__precision": "amp_fp16"},
    ],
)
def test_what_needs_parts_only_is_not(tree: dict[str, Any], override: dict[str, Any]) -> None:
    parse_config(changed(tree, distributed__strategy="fsdp", **override))


def test_a_loss_scale_needs_gradients_on_its_device(tree: dict[str, Any]) -> None:
    tree = changed(tree, distributed__strategy={"name": "zero2", "cpu_offload": True})
    parse_config(changed(tree, train__precision="amp_bf16"))
    with pytest.raises(
        ConfigError, match=r"`train.precision` \(amp_fp16\) does not work with .* \(zero2\): .*; use amp_bf16"
    ):
        parse_config(changed(tree, train__precision="amp_fp16"))
