"""The sampler: every property for many random plans."""

import dataclasses
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from dist_train.config.plan import Plan
from dist_train.data.sampler import EvaluationBatches, StreamSampler, epoch_order

CASES = range(40)


def random_plan(case: int) -> Plan:
    """A plan as ``make_plan`` would make it: 1 to 4 ranks, some accumulation, images that do not divide evenly."""
    rng = np.random.default_rng(case)
    world, micro, accumulate = int(rng.integers(1, 5)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    steps, epochs = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    batch = world * micro * accumulate
    images = steps * batch + int(rng.integers(0, batch))
    total = steps * epochs - int(rng.integers(0, 2)) * (steps * epochs > 1)
    return Plan(world, images, batch, micro, accumulate, steps, total, 0, steps, steps, 1)


def stream(plan: Plan, rank: int, position: int = 0, seed: int = 3) -> list[Any]:
    return list(StreamSampler(range(plan.train_images), plan, rank, seed, position))


def by_step(plan: Plan, keys: list[Any]) -> list[list[Any]]:
    share = plan.micro_batch * plan.accumulate
    return [keys[start : start + share] for start in range(0, len(keys), share)]


@pytest.mark.parametrize("case", CASES)
def test_an_epoch_sees_each_image_at_most_once_and_whole_batches_of_them(case: int) -> None:
    plan = random_plan(case)
    steps = [by_step(plan, stream(plan, rank)) for rank in range(plan.world_size)]
    assert all(len(mine) == plan.total_steps for mine in steps)
    for epoch in range(-(-plan.total_steps // plan.steps_per_epoch)):
        last = min((epoch + 1) * plan.steps_per_epoch, plan.total_steps)
        seen = Counter(key for mine in steps for step in mine[epoch * plan.steps_per_epoch : last] for key in step)
        assert max(seen.values()) == 1
        assert len(seen) == (last - epoch * plan.steps_per_epoch) * plan.global_batch
        assert {key[0] for key in seen} == {epoch}


@pytest.mark.parametrize("case", CASES)
def test_the_samples_of_a_step_do_not_depend_on_the_world_size(case: int) -> None:
    plan = random_plan(case)
    alone = dataclasses.replace(plan, world_size=1, micro_batch=plan.global_batch, accumulate=1)
    expected = [set(step) for step in by_step(alone, stream(alone, 0))]
    ranks = [by_step(plan, stream(plan, rank)) for rank in range(plan.world_size)]
    assert [set().union(*map(set, step)) for step in zip(*ranks, strict=True)] == expected


@pytest.mark.parametrize("case", CASES)
def test_a_stream_can_be_taken_up_at_any_step(case: int) -> None:
    plan = random_plan(case)
    for rank in range(plan.world_size):
        whole = stream(plan, rank)
        for position in range(plan.total_steps + 1):
            rest = stream(plan, rank, position)
            assert rest == whole[position * plan.micro_batch * plan.accumulate :]
            assert len(rest) == len(StreamSampler(range(plan.train_images), plan, rank, 3, position))


@pytest.mark.parametrize("case", CASES)
def test_repeats_show_a_part_of_the_images_several_times(case: int) -> None:
    plan, repeats = random_plan(case), case % 3 + 2
    repeated = dataclasses.replace(plan, repeats=repeats)
    for position in (0, plan.total_steps - 1):
        assert [key[:2] for key in stream(dataclasses.replace(plan, repeats=1), 0, position)] == stream(
            plan, 0, position
        )
    steps = [by_step(repeated, stream(repeated, rank)) for rank in range(plan.world_size)]
    alone = dataclasses.replace(repeated, world_size=1, micro_batch=plan.global_batch, accumulate=1)
    by_one = by_step(alone, stream(alone, 0))
    assert [sorted(chain.from_iterable(step)) for step in zip(*steps, strict=True)] == [sorted(step) for step in by_one]
    first = list(chain.from_iterable(by_one[: plan.steps_per_epoch]))
    order = epoch_order(3, 0, plan.train_images).tolist()
    expected = [(0, index, time)[: 3 if time else 2] for index in order for time in range(repeats)][: len(first)]
    assert sorted(first) == sorted(expected), (
        "an epoch of the same length: the first images of its order, each several times"
    )
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(("micro", "repeats"), [(4, 3), (2, 2), (6, 2)])
def test_a_micro_batch_holds_an_image_once(micro: int, repeats: int) -> None:
    plan = Plan(4, 200, 4 * micro, micro, 1, 200 // (4 * micro), 8, 0, 1, 1, 1, repeats=repeats)
    for rank in range(4):
        for step in by_step(plan, stream(plan, rank)):
            assert len({key[1] for key in step}) == micro


def test_it_is_a_distributed_sampler_that_never_pads() -> None:
    plan = random_plan(0)
    sampler = StreamSampler(range(plan.train_images), plan, 0, seed=3)
    assert isinstance(sampler, DistributedSampler)
    assert sampler.drop_last
    assert (sampler.num_replicas, sampler.rank, sampler.seed) == (plan.world_size, 0, 3)


def test_set_epoch_moves_to_the_start_of_an_epoch() -> None:
    plan = next(plan for plan in map(random_plan, CASES) if plan.total_steps > 2 * plan.steps_per_epoch)
    sampler = StreamSampler(range(plan.train_images), plan, plan.world_size - 1, seed=3)
    sampler.set_epoch(2)
    assert sampler.epoch == 2
    assert list(sampler) == stream(plan, plan.world_size - 1, 2 * plan.steps_per_epoch)
    assert {epoch for epoch, _ in sampler} == {2}


def test_every_epoch_and_seed_has_its_own_order() -> None:
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(map(tuple, orders))) == 4


@pytest.mark.parametrize("case", CASES)
def test_evaluation_deals_whole_batches_that_are_the_same_at_any_world_size(case: int) -> None:
    rng = np.random.default_rng(case)
    length, size, world = int(rng.integers(1, 60)), int(rng.integers(1, 9)), int(rng.integers(1, 5))
    expected = list(EvaluationBatches(length, size, 0, 1))
    dealt = [EvaluationBatches(length, size, rank, world) for rank in range(world)]
    assert [len(batches) for batches in dealt] == [len(list(batches)) for batches in dealt]
    assert sorted(batch for batches in dealt for batch in batches) == expected
    assert [index for batch in expected for _, index in batch] == list(range(length))
    assert all(len(batch) == size for batch in expected[:-1])
