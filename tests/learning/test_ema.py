"""The moving average equals timm's, buffers included."""

import pytest
import timm
import torch
from timm.utils import ModelEmaV3
from torch import nn

from dist_train.errors import ConfigError
from dist_train.learning.ema import Ema
from tests.support import odd_models


def test_the_average_is_timms_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    ours, theirs = Ema(model, 0.9), ModelEmaV3(model, decay=0.9)
    for step in range(1, 4):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(1 if tensor.dtype == torch.int64 else torch.randn_like(tensor))
        ours.update(step)
        theirs.update(model, step)
    assert not ours.module.training
    for name, tensor in theirs.module.state_dict().items():
        assert torch.equal(ours.module.state_dict()[name], tensor), name


def test_a_tensor_in_two_places_is_averaged_once_and_a_new_one_is_found() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("running_mean", torch.zeros(1))
    ema = Ema(model, 0.5)
    with torch.no_grad():
        model[0].weight.fill_(4.0)
    ema.update(1)
    with torch.no_grad():
        model[0].weight.fill_(0.0)
    model.running_mean = torch.ones(1)
    ema.update(2)
    assert ema.module[0].weight.eq(2).all()
    assert ema.module[1].weight is ema.module[0].weight
    assert ema.module.running_mean.item() == 0.5


def test_a_skipped_step_leaves_the_average_and_any_other_has_the_same_bits() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    plain, told = Ema(model, 0.9), Ema(model, 0.9)
    for step in range(1, 5):
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(torch.randn_like(tensor))
        plain.update(step)
        told.update(step, torch.tensor(True))
    for mine, other in zip(plain.averaged, told.averaged, strict=True):
        assert torch.equal(mine, other)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    told.update(5, torch.tensor(False))
    for mine, other in zip(plain.averaged, told.averaged, strict=True):
        assert torch.equal(mine, other)


def test_other_buffers_are_copied_and_what_is_infinite_too() -> None:
    model = odd_models.Mask(3)
    model.register_buffer("count", torch.zeros(1))
    ema = Ema(model, 0.9)
    for step in range(1, 4):
        model.count += 1
        ema.update(step)
    assert ema.module.mask.equal(model.mask)
    assert ema.module.bias.equal(model.bias)
    assert ema.module.count.item() == 3


def test_a_model_that_cannot_be_copied_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"`train\.ema` needs a copy of the model, which cannot be copied"):
        Ema(odd_models.Lock(3), 0.9)


@pytest.mark.parametrize("told", [None, torch.tensor(True)])
def test_the_warm_up_is_timms(told: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    ours, theirs = Ema(model, 0.8, warmup=True), ModelEmaV3(model, decay=0.8, use_warmup=True)
    for step in range(1, 21):
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(torch.randn_like(tensor))
        ours.update(step, told)
        theirs.update(model, step)
        assert step == 1 or ours.decay(step) == theirs.get_decay(step)
    assert ours.decay(1) == 0
    assert ours.decay(2) < ours.decay(5) < ours.decay(20) == 0.8
    for name, tensor in theirs.module.named_parameters():
        assert torch.equal(ours.module.get_parameter(name), tensor), name


def test_an_update_every_few_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema, seen = Ema(model, 0.5, every=3), []
    for step in range(1, 8):
        with torch.no_grad():
            model.weight.fill_(float(step))
        ema.update(step)
        seen.append(ema.module.weight.item())
    assert seen == [1, 1, 1, 2.5, 2.5, 2.5, 4.75], "at steps 1, 4 and 7, as torchvision's references do"
    assert Ema(model, 0.9, warmup=True, every=3).decay(4) == pytest.approx(1 - 2 ** (-2 / 3))
