"""Seeds are the same on every machine and in every version; a program's generators are given back."""

import random

import numpy as np
import pytest
import torch

from dist_train.seeding import AT_ONCE, fold_in, fold_in_each, reseed, restored_generators

CPU = [torch.device("cpu")]


@pytest.mark.parametrize(
    ("seed", "keys", "expected"),
    [
        (0, (), 2631537505891389924),
        (0, ("epoch", 3), 4202714140303743519),
        (7, ("sample", 1, 59), 8168412593059036118),
        (7, ("val", "train/class_ä/0.png"), 7996193482428645245),
        (2**63, ("step", 123456, 0, 3), 1042474158121570460),
    ],
)
def test_a_seed_never_changes(seed: int, keys: tuple[int | str, ...], expected: int) -> None:
    assert fold_in(seed, *keys) == expected


def test_many_seeds_at_once() -> None:
    odd = ["", "a/b.png", "it's", "both ' and \"", "\udcff", "ü\n", "a\\b", "\x7f", "\x00", "日本", "~ "]
    for names in (*([name] for name in odd), odd, ["ü/日本.png"] * 2, list(map(str, range(AT_ONCE + 9))), []):
        assert fold_in_each(7, "val", names).tolist() == [fold_in(7, "val", name) for name in names]
    names = [*odd, *map(str, range(100))]
    for seed, key in ((0, "val"), (-1, "fold"), (2**40, "it's"), (3, 7)):
        assert fold_in_each(seed, key, names).tolist() == [fold_in(seed, key, name) for name in names]


def test_every_key_and_its_place_counts() -> None:
    keys: list[tuple[int | str, ...]] = [(), (0,), (1,), ("1",), (0, 1), (1, 0), ("a", 0), ("a0",), (0, 0)]
    seeds = {fold_in(seed, *key) for seed in (0, 1) for key in keys}
    assert len(seeds) == 2 * len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds), "which torch's generators take"


def test_reseeding_is_what_manual_seed_would_do() -> None:
    key = fold_in(0, "step", 5)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(key))
    with torch.random.fork_rng(devices=[]):
        reseed(key, CPU)
        assert torch.equal(torch.rand(4), expected)
        assert not torch.equal(torch.rand(4), expected)
        reseed(key, CPU)
        assert torch.equal(torch.rand(4), expected)


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
