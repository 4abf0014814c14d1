"""The section `optim`: rates and momenta."""

from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.errors import ConfigError
from tests.support.runs import changed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"optim__betas": [0.9, 1.0]}, "`optim.betas.1` (1.0) must be less than 1"),
        ({"optim__layer_decay": 1.1}, "`optim.layer_decay` (1.1) must be less than or equal to 1"),
        (
            {"optim__lr_base": 0.1},
            "`optim.lr` (0.05) is given, and `optim.lr_base` makes it 0.0046875 at `train.global_batch` 12",
        ),
        ({"optim__lr": None}, "`optim.lr` (None) must be a valid number"),
        ({"optim": {"lr_base": -1.0}}, "`optim.lr_base.rate` (-1.0) must be greater than 0"),
        (
            {"optim": {"lr_base": {"rate": 1.0, "scale": "log"}}},
            "`optim.lr_base.scale` ('log') must be one of linear, sqrt",
        ),
        ({"optim": {"lr_base": 1.0}, "train": {}}, "`train.global_batch` is missing"),
        ({"optim": {}}, "`optim.lr` is missing"),
        ({"optim__lr_scale": {"head": 0.0}}, "`optim.lr_scale.head` (0.0) must be greater than 0"),
        ({"optim__weight_decay": -0.1}, "`optim.weight_decay` (-0.1) must be greater than or equal to 0"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], override: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(changed(tree, **override))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("base", "rate"),
    [
        (0.4, 0.4 * 12 / 256),
        ({"rate": 0.4, "batch": 48}, 0.1),
        ({"rate": 0.4, "batch": 48, "scale": "sqrt"}, 0.2),  # the formula of timm's train.py
    ],
)
def test_the_rate_follows_from_the_batch(tree: dict[str, Any], base: Any, rate: float) -> None:
    cfg = parse_config(changed(tree, optim={"lr_base": base}))
    assert cfg.optim.lr == pytest.approx(rate, rel=1e-12)
    again = parse_config(cfg.model_dump(mode="json"), of_a_run=True)
    assert again == cfg, "config.yaml of a run holds both"
    assert parse_config(changed(tree, optim={"lr_base": base, "lr": None})).optim.lr == cfg.optim.lr
    assert parse_config(changed(tree, optim={"lr_base": base}, train__global_batch=24)).optim.lr > cfg.optim.lr
