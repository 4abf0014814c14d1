"""Which buffers a checkpoint needs besides those of rank 0's model; whole runs are in ``test_odd_models.py``."""

import logging
from typing import Any

import pytest
import torch
from torch import nn

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.group import Dist, joined
from dist_train.errors import ConfigError
from dist_train.learning.rank_buffers import RankBuffers
from tests.support.ranks import run_ranks

ALONE = Dist.alone()


class OwnNorm(nn.BatchNorm1d):
    """May read its statistics in training: nobody knows."""


def module() -> nn.Module:
    made = OwnNorm(2)
    made.add_module("known", nn.BatchNorm1d(2))
    made.register_buffer("fixed", torch.tensor([float("nan")]), persistent=False)
    made.register_buffer("moving", torch.zeros(1, 3, dtype=torch.int16), persistent=False)
    return made


def of_two_ranks() -> dict[str, Any]:
    with joined(DistributedConfig(timeout_s=60)) as group:
        norm = module()
        buffers = RankBuffers(norm, own_code=False)
        assert buffers.state_dict(group) == {}
        images = torch.rand(4, 2, generator=torch.Generator().manual_seed(group.rank))
        norm(images)
        norm.known(images)
        norm.moving = norm.moving + 7
        saved = buffers.state_dict(group)
        own = norm.running_mean.clone()
        norm.reset_running_stats()
        buffers.load_state_dict(saved, group)
        assert norm.running_mean.equal(own)
        return {name: tensor.tolist() for name, tensor in saved.items()}


def test_those_that_differ_and_those_outside_the_state_that_changed() -> None:
    first, second = run_ranks(2, of_two_ranks)
    assert first == second
    assert first.keys() == {"running_mean", "running_var", "moving"}
    assert first["moving"] == [[[7, 7, 7]]] * 2


def with_own_code() -> set[str]:
    with joined(DistributedConfig(timeout_s=60)) as group:
        parts = nn.ModuleDict({"known": nn.BatchNorm1d(2), "equal": nn.BatchNorm1d(2), "odd": nn.Module()})
        parts.odd.register_buffer("lone", torch.zeros(3, dtype=torch.bool))  # the next one begins at an odd byte
        parts.odd.register_buffer("wide", torch.full((), group.rank, dtype=torch.complex64))
        parts.known(torch.rand(4, 2, generator=torch.Generator().manual_seed(group.rank)))
        buffers = RankBuffers(parts, own_code=True)
        saved = buffers.state_dict(group)
        before = [tensor.clone() for tensor in parts.buffers()]
        for tensor in parts.buffers():
            tensor.zero_()
        buffers.load_state_dict(saved, group)
        after = dict(parts.named_buffers())
        assert all(after[name].equal(old) for name, old in zip(after, before, strict=True) if name in saved)
        return set(saved)


def test_where_code_of_the_user_may_read_them_the_statistics_of_each_rank_are_kept() -> None:
    assert run_ranks(2, with_own_code) == [{"known.running_mean", "known.running_var", "odd.wide"}] * 2


def test_other_ranks_take_those_of_rank_0_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    norm = module()
    with caplog.at_level(logging.WARNING):
        RankBuffers(norm, own_code=False).load_state_dict(
            {"running_mean": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}, ALONE
        )
    assert norm.running_mean.tolist() == [1, 2]
    assert "running_mean differ between the ranks" in caplog.text


def test_a_buffer_that_the_model_lacks_is_an_error() -> None:
    with pytest.raises(ConfigError, match="holds buffers that the model lacks: gone"):
        RankBuffers(module(), own_code=False).load_state_dict({"gone": torch.zeros(1, 2)}, ALONE)
