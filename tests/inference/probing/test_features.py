"""Features are what the head gets: for every family of models, for each image once, at any number of ranks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dist_train.config import parse_config
from dist_train.data.index import scan
from dist_train.distributed.group import Dist, joined
from dist_train.errors import ConfigError, DataError
from dist_train.inference.probing.features import faults_named, features
from dist_train.training.setup import build_network
from tests.support.ranks import run_ranks
from tests.support.runs import changed


def _features(tree: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    cfg = parse_config(tree)
    with joined(cfg.distributed) as group:
        index = scan(cfg.data)
        found = features(cfg, build_network(cfg, index, group, load=True), index, group, index.train)
        return None if found is None else (found.values.numpy(), found.labels.numpy())


def test_they_are_the_same_at_any_number_of_ranks(tree: dict[str, Any]) -> None:
    (alone,) = run_ranks(1, _features, tree)
    several, none = run_ranks(2, _features, tree)
    assert none is None
    values, labels = alone
    assert np.array_equal(values, several[0])
    assert np.array_equal(labels, scan(parse_config(tree).data).train.labels[:])
    assert len(np.unique(values, axis=0)) == len(labels)  # each image its own


class Bypass(nn.Module):
    """Uses the weights of its head without calling it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(images.mean((2, 3)), self.head.weight)


def test_a_head_that_is_not_called_is_named(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, model={"name": f"{__name__}:Bypass", "pretrained": False}))
    index = scan(cfg.data)
    network = build_network(cfg, index, Dist.alone(), load=True)
    with pytest.raises(ConfigError, match=r"does not call its head \(head\)"):
        features(cfg, network, index, Dist.alone(), index.val)


def test_images_that_cannot_be_read_are_skipped_or_refused(tree: dict[str, Any], tmp_path: Path) -> None:
    cfg = parse_config(changed(tree, data__bad_images="skip", data__max_bad_share=0.1))
    index, alone = scan(cfg.data), Dist.alone()
    network, image = build_network(cfg, index, alone, load=True), tmp_path / "broken.jpg"
    image.write_bytes(b"\xff\xd8\xff no image")
    paths = index.val.paths.astype("S300")
    paths[3] = str(image).encode()
    broken = replace(index.val, paths=paths)
    found = features(cfg, network, index, alone, broken)
    assert found is not None
    assert (len(found.values), len(found.labels)) == (len(broken) - 1,) * 2
    strict = parse_config(tree)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        features(strict, network, index, alone, broken)
    few = parse_config(changed(tree, data__bad_images="skip", data__max_bad_share=0.01))
    for name, its in {"train": replace(index, train=broken), "val": replace(index, val=broken)}.items():
        with pytest.raises(DataError, match=rf"1 of {len(broken)} {name} images cannot be read"):
            features(few, network, its, alone, broken)


def test_out_of_memory_names_the_key(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"`eval.batch_size` \(5\)"), faults_named(parse_config(tree)):
        raise torch.OutOfMemoryError("CUDA out of memory")
