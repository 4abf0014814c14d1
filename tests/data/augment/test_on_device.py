"""Augmentation of a batch on the device depends only on the key."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing
from torch import nn

from dist_train.config import Config, parse_config
from dist_train.data.augment.on_device import DeviceAugment, Normalise
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex
from dist_train.data.split import Split
from dist_train.errors import ConfigError
from dist_train.model.network import Network
from dist_train.seeding import fold_in

CPU = torch.device("cpu")
NETWORK = Network(nn.Identity(), frozenset(), (), (8, 8), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8))
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])


def config(task: str = "classification", **sections: Any) -> Config:
    losses = {"multilabel": ("bce", "map"), "regression": ("mse", "rmse"), "classification": ("cross_entropy", "top1")}
    loss, metric = losses[task]
    tree = {
        "run": {"name": "a"},
        "model": {"name": "test_vit"},
        "data": {"root": ".", "format": "csv", "task": task, **sections.pop("data", {})},
        "loss": {"name": loss, **sections.pop("loss", {})},
        "eval": {"metric": metric},
        "optim": {"lr": 0.1},
        "train": {"global_batch": 2},
        **sections,
    }
    return parse_config(tree)


def augmenter(cfg: Config) -> DeviceAugment:
    nothing = Split(np.array([], dtype=np.bytes_), np.array([]))
    index = DataIndex(".", FileImages("."), cfg.data.task, ["a", "b", "c"], nothing, nothing, "")
    return DeviceAugment(
        cfg.augment, cfg.loss, Normalise(cfg.data, NETWORK, CPU, False), index, CPU, NETWORK.image_size
    )


def plain(images: torch.Tensor) -> torch.Tensor:
    return Normalise(config().data, NETWORK, CPU, False)(images)


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_are_normalised_as_the_model_wants(channels_last: bool) -> None:
    found = Normalise(config().data, NETWORK, CPU, channels_last)(IMAGES)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (NETWORK.mean, NETWORK.std))
    assert torch.allclose(found, (IMAGES.permute(0, 3, 1, 2) / 255 - mean) / std, atol=1e-5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert found.is_contiguous(memory_format=layout)
    in_turn = IMAGES.permute(0, 3, 1, 2).float().sub_(mean * 255).mul_((std * 255).reciprocal())
    assert torch.equal(found, in_turn), "to the bit, whatever is done in one pass"


def test_or_as_the_config_says() -> None:
    cfg = config(data={"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]})
    found = Normalise(cfg.data, NETWORK, CPU, False)(IMAGES)
    assert torch.allclose(found, IMAGES.permute(0, 3, 1, 2) / 255)
    with pytest.raises(ConfigError, match=r"`data.std.0` \(0.0\) must be greater than 0"):
        config(data={"std": [0.0, 1.0, 1.0]})


def test_without_keys_nothing_but_normalisation_happens() -> None:
    images, labels = augmenter(config())(IMAGES, CLASSES, 1)
    assert torch.equal(images, plain(IMAGES))
    assert labels is CLASSES


@pytest.mark.parametrize("fill", ["mean", "colour", "noise"])
def test_rectangles_are_erased(fill: str) -> None:
    keys = {"erasing": 1.0, "erasing_scale": [0.25, 0.25], "erasing_ratio": [1.0, 1.0], "erasing_fill": fill}
    torch.manual_seed(0)
    images, _ = augmenter(config(augment=keys))(IMAGES, CLASSES, 1)
    erased = images != plain(IMAGES)
    assert erased.any(1).sum((1, 2)).tolist() == [64] * 6  # a quarter of 16 x 16, square
    for image, where in zip(images, erased.any(1), strict=True):
        values = image[:, where]
        if fill == "mean":
            assert (values == 0).all()
        else:
            distinct = len(values[0].unique())
            assert distinct == (1 if fill == "colour" else 64)


def test_erased_rectangles_share_the_area() -> None:
    keys = {"erasing": 1.0, "erasing_scale": [0.25, 0.25], "erasing_ratio": [1.0, 1.0], "erasing_count": 4}
    found, expected = [], []
    for key in range(20):
        images, _ = augmenter(config(augment=keys))(IMAGES, CLASSES, key)
        random.seed(fold_in(key, "erase"))
        theirs = RandomErasing(1.0, 0.25, 0.25, 1.0, 1.0, "const", max_count=4, device="cpu")
        expected.append(theirs(plain(IMAGES)))
        found.append(images)
    assert torch.equal(torch.stack(found), torch.stack(expected))
    areas = {int(area) for images in found for area in (images == 0).all(1).sum((1, 2))}
    assert len(areas) > 3, "one to four rectangles, which may lie over each other"


def test_random_numbers_follow_from_the_key() -> None:
    cfg = config(augment={"erasing": 0.5, "erasing_fill": "noise", "mixup": 0.8, "cutmix": 1.0})
    augment = augmenter(cfg)

    def run(key: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(key)  # as the training step does
        return augment(IMAGES.clone(), CLASSES, key)

    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_mixed_class_labels_are_smoothed_shares() -> None:
    cfg = config(augment={"mixup": 1.0}, loss={"label_smoothing": 0.3})
    images, targets = augmenter(cfg)(IMAGES, CLASSES, 1)
    assert targets.shape == (6, 3)
    assert torch.allclose(targets.sum(1), torch.ones(6))
    share = (targets[0, 0] - 0.1) / 0.7  # of image 0, in the mix of images 0 and 5
    assert torch.allclose(images, share * plain(IMAGES) + (1 - share) * plain(IMAGES).flip(0), atol=1e-4)
    assert torch.allclose(targets[0], torch.tensor([0.1 + 0.7 * share, 0.1, 0.1 + 0.7 * (1 - share)]))


def test_mixed_sets_of_labels_are_weighted_one_by_one() -> None:
    labels = torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0]])
    _, targets = augmenter(config("multilabel", augment={"mixup": 1.0}))(IMAGES, labels, 1)
    share = targets[0, 0]  # only image 0 has it, of 0 and 5
    assert 0 < share < 1
    assert torch.allclose(targets, share * labels + (1 - share) * labels.flip(0))
    assert targets[0, 1] == 1  # both have it


def test_regression_cannot_be_mixed() -> None:
    with pytest.raises(ConfigError, match=r"`augment.cutmix` mixes images and their labels, .* set it to 0"):
        config("regression", augment={"cutmix": 1.0})
    numbers = torch.rand(6, 2)
    assert augmenter(config("regression", augment={"erasing": 0.5}))(IMAGES, numbers, 1)[1] is numbers


def test_label_sets_are_not_mixed_by_a_timm_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_before_1_0_31(mixup_alpha: float = 1.0, num_classes: int = 1000) -> None: ...

    monkeypatch.setattr("dist_train.data.augment.mixing.Mixup", as_before_1_0_31)
    with pytest.raises(
        ConfigError, match=r"`augment.mixup` \(1\) and `augment.cutmix` \(0\) need timm 1.0.31 or later where"
    ):
        augmenter(config("multilabel", augment={"mixup": 1.0}))
