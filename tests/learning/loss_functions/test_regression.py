"""Regression losses against torch, and their errors."""

import pytest
import torch.nn.functional as F

from dist_train.errors import ConfigError
from tests.support.losses import LABELS, LOGITS, SOFT, loss_of


def test_regression_losses() -> None:
    assert loss_of(name="mse")(LOGITS, SOFT) == pytest.approx(((LOGITS - SOFT) ** 2).mean())
    assert loss_of(name="l1")(LOGITS, SOFT) == pytest.approx((LOGITS - SOFT).abs().mean())
    assert loss_of(name="huber", delta=0.5)(LOGITS, SOFT) == pytest.approx(F.huber_loss(LOGITS, SOFT, delta=0.5))
    with pytest.raises(ConfigError, match=r"needs one number for each output, \(8, 3\), but the data has class labels"):
        loss_of(name="mse")(LOGITS, LABELS)
    with pytest.raises(ConfigError, match=r"targets of shape \(8,\)"):
        loss_of(name="l1")(LOGITS, SOFT[:, 0])
