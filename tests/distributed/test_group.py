"""Collectives on real ranks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints
from dist_train.checkpoint.stored import load
from dist_train.config.sections.distributed import DistributedConfig
from dist_train.distributed.failure_kind import kind_of
from dist_train.distributed.group import choose_strategy, joined
from dist_train.errors import CommError, ConfigError, DataError
from tests.support.ranks import RankFailure, run_ranks
from tests.support.runs import changed, rows, train


def _collectives() -> dict[str, Any]:
    with joined(DistributedConfig(timeout_s=30)) as group:
        value = torch.tensor([float(group.rank), 1.0])
        return {
            "sum": group.sum(value.clone()).tolist(),
            "stack": group.stack(value).tolist(),
            "objects": group.gather_objects(f"rank {group.rank}"),
            "main": group.from_main(lambda: f"from {group.rank}"),
            "world": group.world_size,
            "strategy": group.strategy,
        }


@pytest.mark.parametrize("world_size", [1, 3])
def test_collectives_agree_on_all_ranks(world_size: int) -> None:
    results = run_ranks(world_size, _collectives)
    ranks = range(world_size)
    expected = {
        "sum": [sum(ranks), world_size],
        "stack": [[rank, 1] for rank in ranks],
        "objects": [f"rank {rank}" for rank in ranks],
        "main": "from 0",
        "world": world_size,
        "strategy": "ddp" if world_size > 1 else "none",
    }
    assert results == [expected] * world_size


def _shared_errors(failing: int) -> list[str]:
    messages = []
    with joined(DistributedConfig(timeout_s=30)) as group:
        try:
            with group.together():
                if group.rank == failing:
                    raise DataError(f"rank {failing} cannot read")
        except DataError as error:
            messages.append(str(error))
        try:
            group.from_main(_bad_config)
        except ConfigError as error:
            messages.append(str(error))
        group.gather_objects("still in step")
    return messages


def _bad_config() -> None:
    raise ConfigError("bad key")


def test_an_error_of_one_rank_is_every_ranks_error() -> None:
    assert run_ranks(3, _shared_errors, 2) == [["rank 2 cannot read", "bad key"]] * 3


def test_the_loss_does_not_depend_on_the_world_size(tree: dict[str, Any]) -> None:
    plain = changed(tree, augment__hflip=0.0, train__micro_batch=2, log__every_steps=1, model__head={"init": "timm"})
    traces = [train(plain, world_size, run__name=f"world{world_size}") for world_size in (1, 2, 3)]
    one, *others = ([row["loss"] for row in rows(run, "train")] for run in traces)
    assert len(one) == 10
    assert one[-1] < 0.9 * one[0], "the model learns something, or the comparison is empty"
    for trace in others:
        assert trace == pytest.approx(one, rel=1e-4)


def test_evaluation_prints_the_same_digits_at_any_world_size(tree: dict[str, Any]) -> None:
    """Training differs in the last bits between world sizes, so all three continue from one checkpoint."""
    first = train(tree, 1, run__name="first", train__epochs=1)
    digits = []
    for world_size in (1, 2, 3):
        run = first.with_name(f"world{world_size}")
        shutil.copytree(first, run)
        newest = next((run / "checkpoints").iterdir())
        _forget_evaluation(newest)
        train(tree, world_size, run__name=run.name, train__epochs=1)
        digits.append(rows(run, "val"))
    assert len(digits[0]) == 1
    assert digits[0] == digits[1] == digits[2] == rows(first, "val")


def _forget_evaluation(checkpoint: Path) -> None:
    """Make a checkpoint look as if the run had been stopped between this step and its evaluation."""
    manifest = Manifest(**json.loads((checkpoint / "manifest.json").read_text()))
    state = load(checkpoint)
    state["progress"] |= {"evaluated": -1, "best": None, "last": None}
    shutil.rmtree(checkpoint)
    checkpoints = Checkpoints(checkpoint.parent, keep=1)
    checkpoints.save(state, replace(manifest, evaluated=False))
    checkpoints.close()


def _one_rank_fails(kind: str) -> None:
    with joined(DistributedConfig(timeout_s=30)) as group:
        if group.rank == 1:
            raise ValueError("rank 1 is broken")
        with pytest.raises(RuntimeError) as failure:
            group.sum(torch.zeros(1))
        assert kind_of(failure.value) == kind


def test_a_lost_rank_is_a_comm_error_to_the_others_not_a_hang() -> None:
    with pytest.raises(RankFailure) as failure:
        run_ranks(2, _one_rank_fails, "comm")
    assert "rank 1 is broken" in str(failure.value)
    assert "rank 0" not in str(failure.value)


@pytest.mark.parametrize(
    ("wanted", "world_size", "gpus", "torchrun", "strategy"),
    [
        ("auto", 4, 4, True, "ddp"),
        ("auto", 1, 0, False, "none"),
        ("auto", 1, 1, False, "none"),
        ("auto", 1, 4, False, "dp"),
        ("auto", 1, 4, True, "none"),
        ("dp", 1, 2, False, "dp"),
        ("ddp", 1, 1, True, "ddp"),
        ("none", 1, 4, False, "none"),
        ("fsdp", 2, 0, True, "fsdp"),
        ("fsdp", 1, 1, True, "none"),
        ("fsdp", 1, 0, False, "none"),
    ],
)
def test_strategy(
    monkeypatch: pytest.MonkeyPatch, wanted: str, world_size: int, gpus: int, torchrun: bool, strategy: str
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if torchrun:
        monkeypatch.setenv("RANK", "0")
    assert choose_strategy(wanted, world_size, gpus) == strategy


@pytest.mark.parametrize(
    ("wanted", "world_size", "gpus", "words"),
    [
        ("dp", 2, 2, "is for one process, but torchrun started 2"),
        ("none", 3, 0, "is for one process, but torchrun started 3"),
        ("ddp", 1, 1, "needs torchrun"),
        ("dp", 1, 1, "needs at least 2 GPUs, but this process sees 1"),
    ],
)
def test_an_impossible_strategy_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: str, world_size: int, gpus: int, words: str
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match=words):
        choose_strategy(wanted, world_size, gpus)


def test_kinds_of_failures() -> None:
    assert kind_of(CommError("x")) == kind_of(RuntimeError("[gloo] Connection closed by peer")) == "comm"
    assert kind_of(torch.OutOfMemoryError("CUDA out of memory")) == "oom"
    assert kind_of(DataError("x")) == "data"
    assert kind_of(RuntimeError("shape mismatch")) == kind_of(ValueError("NCCL")) == "other"
