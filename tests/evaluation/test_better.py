"""Which of two evaluations is better."""

import math

import pytest

from dist_train.evaluation.better import better_scores, why_undefined


@pytest.mark.parametrize(
    ("metric", "new", "old", "is_better"),
    [
        ("top1", (50.0, 0.5), (40.0, 0.4), True),
        ("top1", (40.0, 0.4), (50.0, 0.5), False),
        ("top1", (50.0, 0.4), (50.0, 0.5), True),
        ("top1", (50.0, 0.5), (50.0, 0.5), False),
        ("top1", (50.0, math.nan), (50.0, 0.5), False),
        ("mae", (1.0, 0.4), (1.0, 0.5), True),
        ("map", (math.nan, 0.4), (math.nan, 0.5), True),
        ("map", (math.nan, 0.4), (1.0, 0.5), False),
        ("map", (1.0, 0.5), (math.nan, 0.4), True),
        ("map", (math.nan, 0.4), (math.nan, math.nan), True),
    ],
)
def test_of_equal_scores_the_one_with_the_lower_loss_is_better(
    metric: str, new: tuple[float, float], old: tuple[float, float], is_better: bool
) -> None:
    rows = [{metric: score, "loss": loss} for score, loss in (new, old)]
    assert better_scores(metric, rows[0], rows[1]) is is_better


def test_why_a_metric_is_not_a_number() -> None:
    assert why_undefined("map", {"map": math.nan, "loss": 0.5}) == "no validation image has a label"
    assert why_undefined("map", {"map": math.nan, "loss": math.nan}) == "the model's outputs are not finite"
    assert why_undefined("loss", {"loss": math.inf}) == "the model's outputs are not finite"
