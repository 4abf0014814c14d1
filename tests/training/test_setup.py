"""Setup: DataParallel, DDP's buckets, deterministic algorithms."""

import json
import os
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.config.choices import STRATEGIES
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.data_parallel import DataParallel
from dist_train.distributed.strategies.ddp import Ddp
from dist_train.distributed.strategies.fsdp import Fsdp
from dist_train.distributed.strategies.single import Single
from dist_train.distributed.strategies.zero2 import Zero2
from dist_train.errors import ConfigError
from dist_train.training.setup import build_setup, build_strategy, set_algorithms
from tests.support.runs import changed, folder, train


def test_every_strategy_has_its_class() -> None:
    kinds = {name: type(build_strategy(Dist.alone(strategy=name))) for name in STRATEGIES.rows if name != "auto"}
    assert kinds == {"ddp": Ddp, "dp": DataParallel, "fsdp": Fsdp, "none": Single, "zero2": Zero2}


def test_a_run_goes_on_from_its_newest_checkpoint(tree: dict[str, Any]) -> None:
    tree = changed(tree, schedule__name="constant")
    run = train(tree)
    setup = build_setup(parse_config(changed(tree, train__epochs=3)), Dist.alone())
    assert (setup.state.progress.step, setup.plan.total_steps) == (10, 15)
    saved = {name: value.clone() for name, value in setup.state.model.state_dict().items()}
    fresh = build_setup(parse_config(changed(tree, run__name="fresh")), Dist.alone())
    assert fresh.state.progress.step == 0
    assert any(not torch.equal(value, saved[name]) for name, value in fresh.state.model.state_dict().items())
    assert json.loads((run / "classes.json").read_text()) == setup.index.classes


def test_no_folder_is_made_for_a_run_that_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"does not work with `model\.compile`"):
        build_setup(parse_config(changed(tree, train__precision="fp16", model__compile=True)), Dist.alone())
    assert not folder(tree).exists()


def test_what_a_checkpoint_compares_is_that_of_the_config(tree: dict[str, Any]) -> None:
    setup = build_setup(parse_config(tree), Dist.alone())
    assert setup.compared["optim.lr"] == 0.05
    assert not [key for key in setup.compared if key.startswith(("given.", "objective."))]


def test_building_twice_gives_the_same_weights(tree: dict[str, Any]) -> None:
    first, second = (
        build_setup(parse_config(changed(tree, run__name=name)), Dist.alone()).state.model.state_dict()
        for name in ("first", "second")
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_deterministic_algorithms_on_a_gpu_need_a_workspace(tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    try:
        set_algorithms(cfg, torch.device("cpu"))
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        set_algorithms(cfg, torch.device("cuda", 0))
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        torch.use_deterministic_algorithms(False)
