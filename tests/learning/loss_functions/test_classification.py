"""Losses for one class per image, against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from tests.support.losses import LABELS, LOGITS, SOFT, loss_of


def test_cross_entropy_of_labels_and_soft_labels() -> None:
    log_p = LOGITS.log_softmax(1)
    assert loss_of()(LOGITS, LABELS) == pytest.approx(-log_p[range(8), LABELS].mean())
    assert loss_of()(LOGITS, SOFT) == pytest.approx(-(SOFT * log_p).sum(1).mean())


def test_label_smoothing_is_of_labels_only() -> None:
    smoothed = F.one_hot(LABELS, 3) * 0.9 + 0.1 / 3
    smoothing = loss_of(label_smoothing=0.1)
    assert smoothing(LOGITS, LABELS) == pytest.approx(loss_of()(LOGITS, smoothed))
    assert torch.equal(smoothing(LOGITS, SOFT), loss_of()(LOGITS, SOFT)), "Mixup has smoothed them already"


def test_ten_times_on_one_class_is_the_plain_mean_of_weighted_samples() -> None:
    each = F.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (each * torch.tensor([1.0, 10, 1, 1, 10, 1, 1, 1])).mean()
    weighted = loss_of(class_weights={"b": 10.0})
    assert weighted(LOGITS, LABELS) == pytest.approx(expected)
    without_b = LABELS != 1
    torch.testing.assert_close(
        weighted(LOGITS[without_b], LABELS[without_b]), loss_of()(LOGITS[without_b], LABELS[without_b])
    )  # a batch without the class is as if there were no weights
    mixed = 0.3 * F.one_hot(LABELS, 3) + 0.7 * F.one_hot(LABELS.flip(0), 3)
    assert weighted(LOGITS, mixed) == pytest.approx(
        0.3 * weighted(LOGITS, LABELS) + 0.7 * weighted(LOGITS, LABELS.flip(0))
    )


def test_focal() -> None:
    log_p = LOGITS.log_softmax(1)[range(8), LABELS]
    assert loss_of(name="focal", gamma=1.5)(LOGITS, LABELS) == pytest.approx(
        (-((1 - log_p.exp()) ** 1.5) * log_p).mean()
    )
    assert loss_of(name="focal", gamma=0.0, label_smoothing=0.1)(LOGITS, LABELS) == pytest.approx(
        loss_of(label_smoothing=0.1)(LOGITS, LABELS)
    )
    assert loss_of(name="focal", gamma=0.0, class_weights={"c": 4.0})(LOGITS, LABELS) == pytest.approx(
        loss_of(class_weights={"c": 4.0})(LOGITS, LABELS)
    )
