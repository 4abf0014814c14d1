"""Parts that setup wires: DataParallel, the look of what settles the buckets, deterministic algorithms."""

import os
from typing import Any

import pytest
import torch

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.training.setup import build_setup, set_algorithms
from dist_train.training.step import train_step
from tests.support.runs import changed


def test_data_parallel_trains_the_bare_model(tree: dict[str, Any]) -> None:
    """Wrapped as for several GPUs; without any, DataParallel calls the model itself."""
    group = Dist(0, 0, 1, torch.device("cpu"), "dp")
    setup = build_setup(parse_config(tree), group)
    assert isinstance(setup.stepper.wrapped, torch.nn.DataParallel)
    assert setup.stepper.wrapped.module is setup.state.model
    before = setup.state.model.state_dict()["head.weight"].clone()
    train_step(setup.stepper, setup.state)
    assert not torch.equal(setup.state.model.state_dict()["head.weight"], before)
    assert not [name for name in setup.state.state_dict(group)["model"] if name.startswith("module.")]
    half = build_setup(parse_config(changed(tree, run__name="half", train__precision="amp_bf16")), group)
    assert half.stepper.wrapped.module.module is half.state.model, "under an autocast of its own"
    with pytest.raises(ConfigError, match=r"`train.precision` \(fp16\) does not work with DataParallel"):
        build_setup(parse_config(changed(tree, train__precision="fp16")), group)
    with pytest.raises(ConfigError, match=r"`model.compile` \(true\) does not work with DataParallel"):
        build_setup(parse_config(changed(tree, model__compile=True)), group)
    alone = Dist(0, 0, 1, torch.device("cpu"), "none")
    with pytest.raises(ConfigError, match=r"does not work with `model\.compile`"):
        build_setup(parse_config(changed(tree, train__precision="fp16", model__compile=True)), alone)


@pytest.mark.parametrize("channels_last", [False, True])
def test_what_settles_the_buckets_looks_as_a_batch_does(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, channels_last: bool
) -> None:
    """Otherwise the model would be compiled for it alone."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("dist_train.training.setup.settle_buckets", lambda wrapped, images: seen.append(images))
    tree = changed(tree, model={"name": "test_resnet", "pretrained": False, "channels_last": channels_last})
    stepper = build_setup(parse_config(tree), Dist(0, 0, 1, torch.device("cpu"), "none")).stepper
    images, labels, _ = next(stepper.batches)
    batch, _ = stepper.augment(images, labels, 0)
    assert (seen[0].shape, seen[0].stride(), seen[0].dtype) == (batch.shape, batch.stride(), batch.dtype)


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
