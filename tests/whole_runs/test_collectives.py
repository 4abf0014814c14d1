"""Gradients are reduced once per optimizer step, with any number of micro-batches."""

from typing import Any

import pytest

from dist_train.config import parse_config
from tests.support.ranks import run_ranks
from tests.support.runs import changed


def _rounds(tree: dict[str, Any]) -> tuple[list[int], bool]:
    """How often gradient buckets were exchanged in each optimizer step of a run; and whether gradients are views of them."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    from dist_train.training import attempt
    from dist_train.training import loop as train

    exchanged: list[int] = []
    views = []

    def fit(setup: Any, recorder: Any, stop: Any) -> Any:
        def hook(group, bucket):  # no annotations: torch checks them
            exchanged.append(bucket.index())
            return allreduce_hook(group, bucket)

        setup.stepper.wrapped.register_comm_hook(None, hook)
        views.append(setup.stepper.wrapped.gradient_as_bucket_view)
        return real_fit(setup, recorder, stop)

    def step(stepper: Any, state: Any) -> None:
        before = len(exchanged)
        real_step(stepper, state)
        rounds.append(len(exchanged) - before)

    rounds: list[int] = []
    real_fit, attempt.fit = attempt.fit, fit  # type: ignore[assignment]
    real_step, train.train_step = train.train_step, step  # type: ignore[assignment]
    assert attempt.main(parse_config(tree)) == 0
    assert len(set(exchanged)) == max(exchanged) + 1
    return [count // len(set(exchanged)) for count in rounds], all(views)


@pytest.mark.parametrize("micro", [6, 2])
def test_one_round_of_buckets_a_step_whatever_is_accumulated(tree: dict[str, Any], micro: int) -> None:
    tree = changed(tree, train__micro_batch=micro, train__epochs=1)
    for rounds, views in run_ranks(2, _rounds, tree):
        assert rounds == [1] * 5
        assert views, "gradients live in the buckets, and are not copied there"
