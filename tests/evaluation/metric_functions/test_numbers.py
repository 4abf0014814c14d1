"""Metrics of a regression against scikit-learn, per output."""

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from dist_train.evaluation.metric_functions import numbers
from dist_train.evaluation.metric_functions.scored import Scored
from tests.support.evaluations import RNG


def test_each_output_is_scikit_learns() -> None:
    labels = RNG.normal(size=(50, 4)).astype(np.float32) * (1, 100, 0, 0)
    outputs = labels + RNG.normal(size=(50, 4)).astype(np.float32) * (1, 10, 1, 0)
    found = Scored(torch.from_numpy(labels), np.zeros(50), torch.from_numpy(outputs.astype(np.float32)))
    truth, guess = labels.astype(np.float64), found.all_outputs().astype(np.float64)
    raw = {"multioutput": "raw_values"}
    assert numbers.absolute_errors(found) == pytest.approx(reference.mean_absolute_error(truth, guess, **raw))
    assert numbers.root_squared_errors(found) == pytest.approx(reference.root_mean_squared_error(truth, guess, **raw))
    assert numbers.r2_scores(found) == pytest.approx(reference.r2_score(truth, guess, **raw)), "constant targets too"
    assert numbers.r2(found) == pytest.approx(reference.r2_score(truth, guess))


def test_one_sample_has_no_r2() -> None:
    found = Scored(torch.ones(1, 2), np.zeros(1), torch.ones(1, 2))
    assert np.isnan(numbers.r2(found))
    assert numbers.mae(found) == numbers.rmse(found) == 0
