"""Mixup and CutMix are timm's in every mode; off from an epoch on, and the host never waits for the device."""

from typing import Any

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from dist_train.config.plan import Plan
from dist_train.data.augment.mixing import Mixing
from dist_train.data.formats.images import FileImages
from dist_train.data.index import DataIndex
from dist_train.data.split import Split
from dist_train.errors import ConfigError
from tests.data.augment.test_on_device import config
from tests.support.fake_cuda import GPU, pretend_gpu
from tests.support.ranks import run_ranks

IMAGES = torch.rand((6, 3, 16, 16), generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])


def mixing(**keys: Any) -> Mixing:
    cfg = config(augment={"mixup": 0.8, "cutmix": 1.0, **keys}, loss={"label_smoothing": 0.1})
    nothing = Split(np.array([], dtype=np.bytes_), np.array([]))
    index = DataIndex(".", FileImages("."), "classification", ["a", "b", "c"], nothing, nothing, "")
    return Mixing(cfg.augment, cfg.loss, index, 16)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("minmax", [None, (0.2, 0.8)])
def test_each_mode_is_timms(mode: str, minmax: Any) -> None:
    theirs = Mixup(0.8, 1.0, minmax, 0.9, 0.4, mode, label_smoothing=0.1, num_classes=3)
    ours = mixing(mix_mode=mode, cutmix_minmax=minmax and list(minmax), mix_prob=0.9, mix_switch_prob=0.4)
    for key in range(6):
        np.random.seed(key)
        expected = theirs(IMAGES.clone(), CLASSES)
        images, targets = ours(IMAGES.clone(), CLASSES, key, True)
        assert torch.equal(images, expected[0])
        assert torch.equal(targets, expected[1])
        again = ours(IMAGES.clone(), CLASSES, key, True)
        assert torch.equal(images, again[0])


def test_when_it_is_off_targets_keep_their_form() -> None:
    images, targets = mixing()(IMAGES.clone(), CLASSES, 1, False)
    assert torch.equal(images, IMAGES)
    assert torch.equal(targets.argmax(1), CLASSES)
    assert targets.max() == pytest.approx(0.9 + 0.1 / 3)


def test_it_is_off_from_an_epoch_on() -> None:
    plan = Plan(1, 40, 4, 4, 1, 10, 30, 0, 10, 10, 1, mix_off_step=20)
    assert [plan.mixes(step) for step in (0, 19, 20, 29)] == [True, True, False, False]


def test_bounds_without_a_pixel_between_them_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"`augment.cutmix_minmax` \(\[0.5, 0.52\]\): from 8 to less than 8 pixels of 16"
    ):
        mixing(cutmix_minmax=[0.5, 0.52])


def _waits() -> list[str]:
    with pretend_gpu() as gpu:
        for mode in ("batch", "pair", "elem"):
            mix, images, classes = mixing(mix_mode=mode), IMAGES.to(GPU), CLASSES.to(GPU)
            with gpu.noting():
                assert mix(images, classes, 1, True)[1].device == GPU
    return gpu.waits


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_mode_waits_for_the_gpu() -> None:
    assert run_ranks(1, _waits) == [[]]
