"""Ranks agree often enough: at every call if they are few, about once a second if they are many and fast."""

import itertools
import time

import pytest

from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed import agreement
from dist_train.distributed.agreement import EVERY_S, MANY_RANKS, MOST_CALLS, Agreement, calls_between
from dist_train.distributed.group import Dist, joined
from tests.support.ranks import run_ranks


@pytest.mark.parametrize(
    ("step_s", "ranks", "calls"),
    [
        (0.001, MANY_RANKS - 1, 1),
        (0.001, MANY_RANKS, MOST_CALLS),
        (0.25, 512, int(EVERY_S / 0.25)),
        (0.9, 512, 1),
        (30.0, 512, 1),
        (0.0, 512, MOST_CALLS),
    ],
)
def test_the_distance_follows_from_ranks_and_steps(step_s: float, ranks: int, calls: int) -> None:
    assert calls_between(step_s, ranks) == calls


def test_one_rank_agrees_with_itself_at_once() -> None:
    alone = Agreement(Dist.alone())
    assert [alone.call(number) for number in (0, 2, 1)] == [0, 2, 1]


def _agree(
    steps: list[float], many: int, numbers: dict[int, int], new_pace_at: int | None = None
) -> tuple[list[int], ...]:
    """Call with these times between the calls; rank 1 gives ``numbers[call]``. Return answers, distances, exchanges."""
    agreement.MANY_RANKS = many
    with joined(DistributedConfig(timeout_s=30)) as group:
        agreed, answers, between, exchanges = Agreement(group), [], [], []
        for call, step_s in enumerate(steps):
            time.sleep(step_s)
            if call == new_pace_at:
                agreed.new_pace()
            answers.append(agreed.call(numbers.get(call, 0) if group.rank == 1 else 0))
            between.append(agreed.calls_between)
            exchanges.append(agreed.exchanges)
    return answers, between, exchanges


def test_few_ranks_exchange_at_every_call() -> None:
    for answers, between, exchanges in run_ranks(2, _agree, [0.0] * 20, MANY_RANKS, {5: 2}):
        assert answers == [0] * 6 + [2] + [0] * 13
        assert set(between) == {1}
        assert exchanges == list(range(1, 21))


def test_many_ranks_get_the_same_answer_at_the_same_call_with_few_exchanges() -> None:
    late = dict.fromkeys(range(300, 500), 1)
    ranks = run_ranks(4, _agree, [0.0] * 500, 2, late)
    assert all(rank == ranks[0] for rank in ranks)
    answers, between, exchanges = ranks[0]
    assert max(between) > 16
    assert all(after <= 2 * before for before, after in itertools.pairwise(between))
    assert exchanges[-1] < 100
    first = answers.index(1)
    assert 300 < first <= 301 + MOST_CALLS


def test_slow_steps_bring_the_exchanges_back() -> None:
    """As at an evaluation, whose batches take longer than steps: at once where it is announced."""
    fast, slow = [0.0] * 200, [0.3] * 6
    ranks = run_ranks(2, _agree, [*fast, *slow], 2, dict.fromkeys(range(201, 206), 3), new_pace_at=200)
    assert ranks[0] == ranks[1]
    answers, between, exchanges = ranks[0]
    assert max(between[:200]) > 16
    assert max(between[203:]) <= 3
    assert 3 in answers[202:206]
    assert exchanges[-1] - exchanges[199] >= 3
