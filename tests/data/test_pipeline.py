"""One call opens a data set for training and for evaluation alike."""

from typing import Any

import pytest
import torch
from PIL import Image

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.data.pipeline import DataPipeline, open_data
from dist_train.data.stored.reuse import read_index
from dist_train.distributed.group import Dist
from dist_train.model.build import build_model
from tests.support.runs import changed

ALONE = Dist.alone()


def opened(tree: dict[str, Any], train: bool = True) -> DataPipeline:
    cfg = parse_config(tree)
    index = read_index(cfg.data, ALONE)
    return open_data(cfg, ALONE, index, build_model(cfg.model, index.outputs, 32), train)


def test_training_batches_go_on_from_any_step(tree: dict[str, Any]) -> None:
    data = opened(tree)
    plan = make_plan(data.cfg, len(data.index.train), 1)
    straight = list(data.training_batches(plan, 0))
    assert len(straight) == plan.total_steps == 10
    for batch, resumed in zip(straight[7:], data.training_batches(plan, 7), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, resumed, strict=True))
    images, labels = data.augment()(*straight[0][:2], 0)
    assert images.shape == (12, 3, 32, 32)
    assert images.dtype == torch.float32
    assert torch.equal(labels, straight[0][1])


def test_validation_reads_every_image_once(tree: dict[str, Any]) -> None:
    data = opened(tree, train=False)
    batches = list(data.validation)
    assert torch.cat([indices for _, _, indices in batches]).tolist() == list(range(len(data.index.val)))
    assert data.normalise(batches[0][0]).shape == (5, 3, 32, 32)


@pytest.mark.parametrize("train", [True, False])
def test_only_training_needs_the_cache(tree: dict[str, Any], tmp_path: Any, image_folder: Any, train: bool) -> None:
    root = tmp_path / "square"
    for path in image_folder.rglob("*.*"):
        target = (root / path.relative_to(image_folder)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).crop((0, 0, 32, 32)).save(target)
    cache = tmp_path / "cache"
    data = opened(changed(tree, data__root=str(root), data__cache=str(cache), augment__device=True), train)
    assert (data.cache is not None) == train == cache.exists()
    first = next(iter(data.validation))[0]
    assert first.float().std() > 0
