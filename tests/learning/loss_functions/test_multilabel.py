"""Losses with one decision per class, against timm, torch and torchvision, and over ranks."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from dist_train.config import Config, parse_config
from dist_train.distributed.group import joined
from dist_train.learning.losses import build_loss
from dist_train.learning.objective import Supervised
from dist_train.training.setup import build_strategy
from tests.support.losses import CLASSES, COUNTS, LABELS, LOGITS, MANY, SOFT, loss_of
from tests.support.ranks import run_ranks
from tests.support.runs import changed


def test_bce_is_timms_for_labels_and_torchs_for_several() -> None:
    assert loss_of(name="bce", label_smoothing=0.1)(LOGITS, LABELS) == pytest.approx(
        BinaryCrossEntropy(smoothing=0.1)(LOGITS, LABELS)
    )
    assert loss_of(name="bce")(LOGITS, MANY) == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS, MANY))
    each = F.binary_cross_entropy_with_logits(LOGITS, MANY, reduction="none")
    assert loss_of(name="bce", class_weights={"a": 3.0})(LOGITS, MANY) == pytest.approx(
        (each * torch.tensor([3.0, 1, 1])).mean()
    )


@pytest.mark.parametrize(
    "options",
    [
        {"target_threshold": 0.2},
        {"sum_classes": True},
        {"pos_weight": 3.0},
        {"target_threshold": 0.4, "sum_classes": True},
    ],
)
@pytest.mark.parametrize("targets", [LABELS, SOFT, MANY], ids=["labels", "mixed", "sets"])
def test_options_of_bce_are_timms(options: dict[str, Any], targets: Tensor) -> None:
    theirs = BinaryCrossEntropy(smoothing=0.1, **options)(LOGITS, targets)
    assert loss_of(name="bce", label_smoothing=0.1, options=options)(LOGITS, targets) == pytest.approx(theirs)


@pytest.mark.parametrize("options", [{}, {"gamma_neg": 2, "gamma_pos": 0, "clip": 0}, {"clip": 0.3}])
def test_the_asymmetric_loss_is_timms(options: dict[str, Any]) -> None:
    theirs = AsymmetricLossMultiLabel(**options)(LOGITS, MANY)
    assert loss_of(name="asymmetric", options=options)(LOGITS, MANY) == pytest.approx(float(theirs), rel=1e-5)


def test_certain_predictions_have_a_finite_gradient() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss_of(name="asymmetric")(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_binary_focal_is_torchvisions() -> None:
    assert loss_of(name="binary_focal", gamma=2.0)(LOGITS, MANY) == pytest.approx(
        sigmoid_focal_loss(LOGITS, MANY, alpha=-1, gamma=2, reduction="mean")
    )


def test_soft_f1_of_certain_and_right_predictions_is_zero_loss() -> None:
    certain = F.one_hot(LABELS, 3) * 200.0
    assert loss_of(name="soft_f1")(certain, LABELS) == pytest.approx(0, abs=1e-6)
    assert loss_of(name="soft_f1")(certain.roll(1, 1), LABELS) == pytest.approx(1, abs=1e-6)
    p, y = LOGITS.sigmoid(), MANY
    f1 = 2 * (p * y).sum(0) / (p.sum(0) + y.sum(0))
    assert loss_of(name="soft_f1")(LOGITS, MANY) == pytest.approx(1 - f1.mean())


def soft_f1_on_ranks(cfg: Config) -> tuple[float, Tensor]:
    """Loss and weight gradient of this rank's share of the batch, averaged as DDP does."""
    with joined(cfg.distributed) as group:
        layer = nn.Linear(3, 3)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
        objective = Supervised(layer, build_loss(cfg.loss, CLASSES, COUNTS, group, layer), nullcontext)
        wrapped = build_strategy(group).wrap(objective, all_used=True)
        share = slice(group.rank, None, group.world_size)
        loss = wrapped(LOGITS[share], MANY[share])["loss"]
        loss.backward()
        assert layer.weight.grad is not None
        return loss.item(), layer.weight.grad.numpy()


def test_soft_f1_over_ranks_is_that_of_the_whole_batch(tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, loss__name="soft_f1"))
    ((loss, gradient),) = run_ranks(1, soft_f1_on_ranks, cfg)
    for other_loss, other_gradient in run_ranks(2, soft_f1_on_ranks, cfg):
        assert other_loss == pytest.approx(loss, abs=1e-6)
        assert other_gradient == pytest.approx(gradient, abs=1e-6)
    assert abs(gradient).max() > 1e-3
