"""The pictures are the tensors that a training step gets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.data.decode_rules import decide_rules
from dist_train.data.looking.samples import evaluation_batch, training_batch
from dist_train.data.pipeline import DataPipeline, open_data
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import Dist
from dist_train.model.build import build_model
from dist_train.run.folder import RunDir
from dist_train.training.parts.given import Given
from dist_train.training.setup import build_setup
from dist_train.training.step import micro_keys, train_step
from tests.support.images import make_array_folder
from tests.support.runs import changed

ALONE = Dist.alone()


def opened(tree: dict[str, Any]) -> DataPipeline:
    cfg = parse_config(tree)
    index = read_index(cfg.data, ALONE)
    index = index.with_rules(decide_rules(cfg.data, index, RunDir.of(cfg.run), resumed=False))
    network = build_model(cfg.model, index.outputs, cfg.data.image_size, channels=cfg.data.channels)
    return open_data(cfg, ALONE, index, network)


def test_they_are_what_the_first_step_of_the_run_trains_on(tree: dict[str, Any]) -> None:
    mixed = changed(tree, augment={"mixup": 0.8, "erasing": 0.5, "erasing_fill": "noise"})
    data = opened(mixed)
    plan = make_plan(data.cfg, len(data.index.train), 1)
    shown = training_batch(data, plan, micro_keys(data.cfg.run.seed, 0, 1, 0)[0], most=5)
    setup = build_setup(data.cfg, ALONE, Given())
    trained: list[torch.Tensor] = []
    setup.stepper.wrapped.register_forward_pre_hook(lambda _, args: trained.append(args[0].clone()))
    train_step(setup.stepper, setup.state)
    expected = data.normalise.undone(trained[0]).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    assert len(shown.pictures) == 5
    assert all(np.array_equal(picture, image) for picture, image in zip(shown.pictures, expected, strict=False))
    assert shown.mean == pytest.approx(trained[0].mean((0, 2, 3)).tolist())
    assert any(" + " in text for text in shown.captions)


def test_evaluation_images_are_spread_over_the_classes(tree: dict[str, Any]) -> None:
    shown = evaluation_batch(opened(tree), most=6)
    assert len(shown.pictures) == 6
    assert set(shown.captions) == {"class_a", "class_b", "class_c"}
    assert shown.pictures[0].shape == (32, 32, 3)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_and_16_bits(tree: dict[str, Any], tmp_path: Path, channels: int) -> None:
    root = make_array_folder(tmp_path / "arrays", channels)
    statistics = {"mean": [0.4] * channels, "std": [0.3] * channels}
    data = {"root": str(root), "image_size": 32, "workers": 0, "channels": channels, "bits": 16, **statistics}
    (picture, *_) = evaluation_batch(opened({**tree, "data": data}), most=2).pictures
    assert (picture.shape, picture.dtype) == ((32, 32, 3), np.uint8)
    assert picture.std() > 10
    assert (channels >= 3) != np.array_equal(picture[:, :, 0], picture[:, :, 1])
