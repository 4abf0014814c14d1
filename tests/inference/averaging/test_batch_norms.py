"""Statistics of BatchNorms after averaging: torch's own where nothing is frozen and nothing drops out."""

import copy

import timm
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from dist_train.inference.averaging.batch_norms import moving, recompute


def model() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3)  # type: ignore[no-any-return]


def statistics(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if "running" in name}


def test_statistics_are_those_of_torchs_update_bn() -> None:
    ours, batches = model(), [torch.randn(4, 3, 32, 32) for _ in range(3)]
    theirs = copy.deepcopy(ours)
    recompute(ours, moving(ours, frozenset(statistics(ours))), batches)
    update_bn(batches, theirs)
    assert statistics(ours).keys() == statistics(theirs).keys()
    for name, buffer in statistics(theirs).items():
        assert torch.equal(statistics(ours)[name], buffer), name
    assert not any(part.training for part in ours.modules())
    assert {part.momentum for part in ours.modules() if isinstance(part, nn.BatchNorm2d)} == {0.1}


def test_frozen_ones_and_dropout_stay() -> None:
    plain, dropping = model(), nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    first = next(name for name in statistics(plain))
    norms = moving(plain, frozenset(statistics(plain)) - {first, first.replace("mean", "var")})
    before = {name: buffer.clone() for name, buffer in statistics(plain).items()}
    recompute(plain, norms, [torch.randn(4, 3, 32, 32)])
    after = statistics(plain)
    kept = {name.rpartition(".")[0] for name in before if torch.equal(before[name], after[name])}
    assert kept == {first.rpartition(".")[0]}
    ones = torch.arange(48.0).view(2, 3, 2, 4)
    recompute(dropping, moving(dropping, frozenset({"1.running_mean"})), [ones])
    assert torch.equal(dropping[1].running_mean, ones.mean((0, 2, 3)))
    assert moving(plain, frozenset()) == []
