"""The mean loss, and means over the classes for which a value is defined."""

import math

import numpy as np
import pytest
import torch

from dist_train.evaluation.metric_functions.scored import Scored, loss, mean_percent


def test_the_loss_is_the_mean_over_samples() -> None:
    assert loss(Scored(torch.zeros(3), np.array([1.0, 2.0, 6.0]))) == 3


def test_values_that_are_not_defined_do_not_count() -> None:
    assert mean_percent(np.array([0.5, np.nan, 1.0])) == 75
    assert math.isnan(mean_percent(np.array([np.nan, np.nan])))


def test_a_metric_that_needs_outputs_says_where_to_ask_for_them() -> None:
    with pytest.raises(AssertionError, match=r"config/choices\.py"):
        Scored(torch.zeros(1), np.zeros(1)).all_outputs()
