"""Seeds are functions of what they belong to; a program's generators are given back."""

import random

import numpy as np
import pytest
import torch

from dist_train.seeding import fold_in, reseed, restored_generators


def test_a_seed_follows_from_its_keys() -> None:
    seeds = {fold_in(0), fold_in(1), fold_in(0, "epoch"), fold_in(0, "epoch", 1), fold_in(0, "epoch", 2)}
    assert len(seeds) == 5
    assert fold_in(0, "epoch", 1) in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_generators_of_a_program_go_on_as_if_nothing_had_been() -> None:
    def drawn() -> list[float]:
        return [random.random(), float(np.random.rand()), torch.rand(()).item()]

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    expected = drawn()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    with pytest.raises(KeyError), restored_generators():
        reseed(7, [torch.device("cpu")])
        random.seed(7)
        np.random.seed(7)
        raise KeyError
    assert drawn() == expected
