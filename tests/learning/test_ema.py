"""The moving average equals timm's, buffers included."""

import timm
import torch
from timm.utils import ModelEmaV3
from torch import nn

from dist_train.learning.ema import Ema


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
    model.register_buffer("mean", torch.zeros(1))
    ema = Ema(model, 0.5)
    with torch.no_grad():
        model[0].weight.fill_(4.0)
    ema.update(1)
    with torch.no_grad():
        model[0].weight.fill_(0.0)
    model.mean = torch.ones(1)
    ema.update(2)
    assert ema.module[0].weight.eq(2).all()
    assert ema.module[1].weight is ema.module[0].weight
    assert ema.module.mean.item() == 0.5
