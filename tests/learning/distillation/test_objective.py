"""Distillation against plain formulas."""

from contextlib import nullcontext
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dist_train.config.choices import DISTILLATIONS
from dist_train.config.sections.loss import DistillConfig, LossConfig
from dist_train.config.user_code import function_of
from dist_train.distributed.group import Dist
from dist_train.errors import ConfigError
from dist_train.learning.distillation import objective
from dist_train.learning.distillation.objective import divergence, of_most_likely, token
from dist_train.learning.losses import build_loss
from dist_train.learning.objective import Parts

MINE = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
THEIRS = torch.tensor([[2.0, 0.0, -1.0], [1.0, 1.5, 4.0]])
LABELS = torch.tensor([0, 1])


def test_soft_is_hintons_divergence() -> None:
    t = 3.0
    mine, theirs = (MINE / t).softmax(1).double(), (THEIRS / t).softmax(1).double()
    expected = t**2 * (theirs * (theirs / mine).log()).sum(1).mean()
    torch.testing.assert_close(divergence(t)(MINE, THEIRS).double(), expected, rtol=1e-5, atol=0)
    assert divergence(t)(THEIRS, THEIRS).abs() < 1e-6


def test_its_gradient_is_that_of_soft_targets() -> None:
    """At any temperature T the gradient is T * (softmax(s / T) - softmax(t / T)) / B."""
    logits = MINE.clone().requires_grad_()
    divergence(2.0)(logits, THEIRS).backward()
    torch.testing.assert_close(logits.grad, 2 * ((MINE / 2).softmax(1) - (THEIRS / 2).softmax(1)) / 2)


def test_hard_is_the_cross_entropy_of_the_most_likely_class() -> None:
    expected = -MINE.log_softmax(1)[torch.arange(2), torch.tensor([0, 2])].mean()
    torch.testing.assert_close(of_most_likely(MINE, THEIRS), expected)


class Fixed(nn.Module):
    """Returns the same outputs whatever the images, and has one parameter."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs, self.weight = outputs, nn.Parameter(torch.tensor([2.0]))

    def forward(self, images: Tensor) -> Any:
        return self.outputs


@pytest.mark.parametrize(
    ("cfg", "outputs", "matching"),
    [
        ({"alpha": 0.3}, MINE, divergence(2.0)(MINE, THEIRS)),
        ({"temperature": 5.0, "alpha": 0.9}, MINE, divergence(5.0)(MINE, THEIRS)),
        ({"kind": "hard"}, MINE, of_most_likely(MINE, THEIRS)),
        ({"kind": "hard", "alpha": 0.2}, MINE, of_most_likely(MINE, THEIRS)),
        ({"alpha": 1.0}, MINE, divergence(2.0)(MINE, THEIRS)),
    ],
)
def test_the_loss_is_the_weighted_mean_and_a_penalty_counts_whole(
    cfg: Any, outputs: Any, matching: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    distill, model = DistillConfig(teacher="x", **cfg), Fixed(outputs)
    monkeypatch.setattr(objective, "open_teacher", lambda *arguments: Fixed(THEIRS))
    found = function_of(DISTILLATIONS, distill.kind)(parts(model, distill, l1=0.5))(torch.zeros(2), LABELS)
    labels = nn.functional.cross_entropy(MINE, LABELS)
    expected = (1 - distill.alpha) * labels + distill.alpha * matching + 0.5 * 2.0
    torch.testing.assert_close(found["loss"].detach(), expected)
    torch.testing.assert_close(found["teacher_loss"], matching)


def parts(model: nn.Module, distill: DistillConfig, **keys: Any) -> Parts:
    cfg, alone, same = LossConfig(distill=distill, **keys), Dist.alone(), ((0.0,) * 3, (1.0,) * 3)
    loss = build_loss(cfg, ["a", "b", "c"], None, alone, model)
    return Parts(cfg, model, model, loss, nullcontext, ["a", "b", "c"], same, alone)


def test_a_token_needs_a_model_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "open_teacher", lambda *arguments: Fixed(torch.tensor([[0.0, 0.0, 1.0]])))
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, num_classes=3)
    distill, images = DistillConfig(teacher="x", kind="token", alpha=1.0), torch.randn(1, 3, 32, 32)
    learned = token(parts(model, distill)).train()
    learned(images, torch.tensor([0]))["loss"].backward()
    assert model.head_dist.weight.grad.abs().sum() > 0
    assert model.head.weight.grad.abs().sum() == 0, "the teacher has the second head only"
    assert model.eval()(images).shape == (1, 3)
    with pytest.raises(
        ConfigError, match=r"`loss.distill.kind` \(token\): VisionTransformer has no distillation token"
    ):
        token(parts(timm.create_model("test_vit"), distill))
