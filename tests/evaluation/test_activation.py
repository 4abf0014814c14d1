"""Outputs to probabilities and back."""

import pytest
import torch

from dist_train.config.choice_table import TASKS, Task
from dist_train.evaluation.activation import activated, inverted, mean_outputs

OUTPUTS = torch.tensor([[0.5, -2.0, 3.0], [9.0, 8.5, -7.0]])


@pytest.mark.parametrize("task", TASKS)
def test_the_inverse_gives_the_same_probabilities(task: Task) -> None:
    probabilities = activated(task, OUTPUTS)
    assert torch.allclose(activated(task, inverted(task, probabilities)), probabilities, atol=1e-6)
    assert activated(task, OUTPUTS.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("task", TASKS)
def test_the_mean_is_that_of_the_probabilities(task: Task) -> None:
    each = [activated(task, OUTPUTS), activated(task, OUTPUTS.flip(1))]
    assert torch.allclose(activated(task, mean_outputs(task, each)), (each[0] + each[1]) / 2, atol=1e-6)


def test_certain_outputs_stay_finite() -> None:
    certain = torch.tensor([[0.0, 1.0]])
    assert inverted("classification", certain).isfinite().all()
    assert inverted("multilabel", certain).isfinite().all()
