"""What moves though it is frozen, and what must not be reported."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.training.setup import build_setup
from tests.support.odd_models import NoAffine, Small
from tests.support.runs import changed


class Moving(NoAffine):
    """Everything that may change in a pass: in the model itself, in frozen parts, and in the head."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("fixed", torch.full((8,), torch.nan))
        self.conv.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.conv.register_forward_hook(self.count)
        self.gate = nn.Parameter(torch.ones(()))

    def count(self, conv: Any, *_: Any) -> None:
        conv.calls = conv.calls + 1  # in eval mode, too
        if self.training:
            self.gate.data.mul_(0.5)

    def before_head(self, features: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(features.detach().mean(0), 0.1)
        return features * self.gate


class Steady(Small):
    """A part without parameters keeps the running mean."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.centre = Centre()

    def before_head(self, features: Tensor) -> Tensor:
        return self.centre(features)  # type: ignore[no-any-return]


class Centre(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(features.detach().mean(0), 0.1)
        return features - self.mean


def warnings(tree: dict[str, Any], caplog: pytest.LogCaptureFixture, model: type[nn.Module], freeze: Any) -> list[str]:
    name = f"{__name__}:{model.__name__}"
    cfg = parse_config(changed(tree, model={"name": name, "pretrained": False, "freeze": freeze}))
    setup = build_setup(cfg, Dist.alone())
    setup.checkpoints.abandon()
    buffers = dict(setup.state.model.named_buffers())
    assert not any(buffers[name].any() for name in buffers if name.endswith(("mean", "calls"))), "the trial left traces"
    return [record.message for record in caplog.records if "`model.freeze`" in record.message]


def test_what_freezing_cannot_stop_is_named_in_one_sentence(
    tree: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (said,) = warnings(tree, caplog, Moving, "backbone")
    assert said.startswith("`model.freeze` (backbone) does not keep mean, conv.calls, gate as they are: ")


def test_a_pattern_covers_what_it_names(tree: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    (said,) = warnings(tree, caplog, Moving, ["conv"])
    assert said.startswith("`model.freeze` (conv) does not keep conv.calls as it is: ")


@pytest.mark.parametrize("freeze", ["none", "backbone", ["conv"]])
def test_nothing_is_said_of_the_rest(tree: dict[str, Any], caplog: pytest.LogCaptureFixture, freeze: Any) -> None:
    assert not warnings(tree, caplog, Steady, freeze)
