"""Each metric on samples that can be counted by hand. tests/evaluation/test_metrics.py compares them with scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch

from dist_train.evaluation import metric_functions as metrics
from dist_train.evaluation.metric_functions import Scored


def scored(**columns: Any) -> Scored:
    empty = np.empty(0)
    found: dict[str, Any] = {"losses": empty, "in_top1": empty, "in_top5": empty, "labels": torch.empty(0)}
    return Scored(**(found | {"classes": None, "outputs": None} | columns))


def test_of_classes() -> None:
    labels, classes = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 1, 1, 1])
    found = scored(
        losses=np.array([1.0, 2.0, 3.0, 4.0]),
        in_top1=np.array([1.0, 0.0, 1.0, 0.0]),
        in_top5=np.array([1.0, 1.0, 1.0, 0.0]),
        labels=labels,
        classes=classes,
    )
    assert (metrics.loss(found), metrics.top1(found), metrics.top5(found)) == (2.5, 50.0, 75.0)
    f1 = [2 / 3, 1 / 2, 0]  # class 2 is nowhere, and does not count
    assert metrics.macro_f1(found) == pytest.approx(100 * sum(f1) / 3)


def test_of_label_sets() -> None:
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    outputs = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.9, 0.0]])
    found = scored(labels=labels, outputs=outputs)
    precisions = [(1 + 2 / 3) / 2, 1 / 2]
    assert metrics.mean_average_precision(found) == pytest.approx(100 * sum(precisions) / 2), (
        "the third has no positive"
    )
    assert metrics.macro_f1(found) == pytest.approx(100 * (0.8 + 0) / 2), "the third class is nowhere"


def test_of_numbers() -> None:
    labels = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    found = scored(labels=labels, outputs=labels + torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert metrics.mae(found) == pytest.approx((1 + 1) / 2)
    assert metrics.rmse(found) == pytest.approx((1 + 2**0.5) / 2)
    assert metrics.r2(found) == pytest.approx((0 + (1 - 4 / 2)) / 2)
    single = scored(labels=labels[:1], outputs=labels[:1])
    assert np.isnan(metrics.r2(single))
    assert metrics.mae(single) == 0
