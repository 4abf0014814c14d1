"""What a step does to buffers; whole skipped steps are in ``tests/training/test_step.py``."""

import math

import pytest
import torch
from torch import nn

from dist_train.errors import ConfigError
from dist_train.learning.step_buffers import StepBuffers

LOSS = torch.tensor(3.0)


def module() -> nn.Module:
    made = nn.BatchNorm1d(2)
    made.register_buffer("mask", torch.tensor([[0.0, -math.inf], [0.0, 0.0]]))
    made.register_buffer("turns", torch.ones(2, dtype=torch.complex64))
    made.register_buffer("flag", torch.tensor(True))
    return made


def test_sound_is_one_and_only_what_was_finite_is_looked_at() -> None:
    norm = module()
    buffers = StepBuffers(norm, ())
    assert buffers.soundness(LOSS, last=True).item() == 1
    assert buffers.soundness(torch.tensor(math.inf), last=False).isnan()
    for name in ("running_var", "mask", "turns"):
        tensor = norm.get_buffer(name)
        value = tensor.view(-1)[0].clone()
        tensor.view(-1)[0] = math.nan
        assert buffers.soundness(LOSS, last=True).isnan()
        assert buffers.soundness(LOSS, last=False).item() == 1
        assert buffers.not_finite() == [name]
        tensor.view(-1)[0] = value
    assert buffers.soundness(LOSS, last=True).item() == 1


def test_what_became_finite_counts_from_the_next_note_on() -> None:
    norm = module()
    buffers = StepBuffers(norm, ())
    norm.mask.zero_()
    buffers.note_finite()
    norm.mask[0, 1] = -math.inf
    assert buffers.not_finite() == ["mask"]


def test_values_are_put_back_unless_the_step_is_finite() -> None:
    norm, teacher = module(), nn.Linear(2, 2)
    buffers = StepBuffers(nn.ModuleList([norm, teacher]), [teacher.weight])
    for finite in (True, False, True, False):
        before = {name: tensor.clone() for name, tensor in (norm.state_dict() | teacher.state_dict()).items()}
        with torch.no_grad():
            teacher.weight.add_(1)
        norm(torch.rand(4, 2))
        norm.turns = norm.turns * 1j
        norm.flag.logical_not_()
        changed = {name: tensor.clone() for name, tensor in (norm.state_dict() | teacher.state_dict()).items()}
        buffers.put_back_unless(torch.tensor(finite))
        for name, tensor in (norm.state_dict() | teacher.state_dict()).items():
            assert tensor.equal(changed[name] if finite else before[name]), (finite, name)


def test_a_buffer_of_another_shape_is_an_error() -> None:
    norm = module()
    buffers = StepBuffers(norm, ())
    norm.mask = torch.zeros(3)
    with pytest.raises(ConfigError, match=r"the buffer mask had the shape \[2, 2\] at the start, and has \[3\]"):
        buffers.soundness(LOSS, last=True)
