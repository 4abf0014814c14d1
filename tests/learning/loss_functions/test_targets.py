"""Targets as floats, and the factor of the focal losses."""

import pytest
import torch
from torch import Tensor

from dist_train.errors import ConfigError
from dist_train.learning.loss_functions.targets import soft_labels, weighted
from tests.support.losses import LABELS, LOGITS, SOFT, loss_of


def test_class_labels_become_smoothed_rows() -> None:
    rows = soft_labels(LOGITS, LABELS, 0.3)
    assert rows[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert torch.equal(soft_labels(LOGITS, SOFT, 0.3), SOFT), "soft labels are taken as they are"
    with pytest.raises(ConfigError, match=r"targets of shape \(8, 2\)"):
        soft_labels(LOGITS, SOFT[:, :2], 0.0)


def test_weights_are_of_classes() -> None:
    assert weighted(LOGITS, None) is LOGITS
    assert torch.equal(weighted(LOGITS, torch.tensor([1.0, 0.0, 2.0])), LOGITS * torch.tensor([1.0, 0.0, 2.0]))


@pytest.mark.parametrize(("name", "targets"), [("focal", torch.tensor([0])), ("binary_focal", torch.tensor([[1.0, 0.0, 0.0]]))])  # fmt: skip
def test_what_is_all_right_has_a_finite_gradient(name: str, targets: Tensor) -> None:
    logits = torch.tensor([[100.0, -100.0, -100.0]], requires_grad=True)
    loss_of(name=name, gamma=0.5)(logits, targets).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all(), "the slope of p ** 0.5 at 0 is infinite"
