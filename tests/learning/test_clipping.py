"""Clipping equals torch's and timm's, and reports the norm before it."""

import math
from typing import Any

import pytest
import timm
import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn

from dist_train.config.sections.train import ClipConfig
from dist_train.distributed.group import Dist
from dist_train.distributed.strategies.single import Single
from dist_train.learning.clipping import clipping

BY_NORM = Single(Dist.alone()).clip


def with_gradients() -> nn.Module:
    """A model with gradients; those of one parameter are missing, as of one that took no part."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.randn_like(parameter) if number else None
    return model  # type: ignore[no-any-return]


def clipped(model: nn.Module, **cfg: Any) -> torch.Tensor:
    clip = clipping(ClipConfig(**cfg) if cfg else None, BY_NORM, frozenset(model.get_classifier().parameters()))  # type: ignore[operator]
    return clip([p for p in model.parameters() if p.grad is not None])


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = [
        (p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True) if p.grad is not None
    ]
    return all(torch.equal(p, q) for p, q in pairs if q is not None) and len(pairs) > 10


def norm_of(model: nn.Module) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))


def test_by_the_norm_as_torch() -> None:
    ours, theirs = with_gradients(), with_gradients()
    before = clipped(ours, value=1.0)
    assert torch.equal(before, nn.utils.clip_grad_norm_(theirs.parameters(), 1.0))
    assert same(ours, theirs)
    assert norm_of(ours) == pytest.approx(1, rel=1e-4)


def test_by_value_as_torch() -> None:
    ours, theirs = with_gradients(), with_gradients()
    before = norm_of(ours)
    assert float(clipped(ours, mode="value", value=0.3)) == pytest.approx(before, rel=1e-5)
    nn.utils.clip_grad_value_(theirs.parameters(), 0.3)
    assert same(ours, theirs)
    assert max(float(p.grad.abs().max()) for p in ours.parameters() if p.grad is not None) == pytest.approx(0.3)


def test_adaptively_as_timm_and_not_the_head() -> None:
    ours, theirs = with_gradients(), with_gradients()
    before = norm_of(ours)
    assert float(clipped(ours, mode="agc", value=0.01)) == pytest.approx(before, rel=1e-5)
    head = set(theirs.get_classifier().parameters())  # type: ignore[operator]
    adaptive_clip_grad([p for p in theirs.parameters() if p not in head], clip_factor=0.01)
    assert same(ours, theirs)
    assert norm_of(ours) < before
    unclipped = with_gradients()
    assert torch.equal(ours.fc.weight.grad, unclipped.fc.weight.grad)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("cfg", [{}, {"mode": "value", "value": 1.0}, {"mode": "agc", "value": 0.01}])
def test_the_norm_shows_what_is_not_finite(cfg: dict[str, Any]) -> None:
    model = with_gradients()
    next(p for p in model.parameters() if p.grad is not None).grad.fill_(math.inf)  # type: ignore[union-attr]
    assert not clipped(model, **cfg).isfinite()


def test_without_the_key_gradients_stay() -> None:
    ours, untouched = with_gradients(), with_gradients()
    clipped(ours)
    assert same(ours, untouched)
