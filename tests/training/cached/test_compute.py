"""Runs on cached features: the same at any start, and nearly those on images."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.inference.evaluate_runs import evaluate_runs
from dist_train.system.files import read_json
from dist_train.training.cached.compute import timed
from dist_train.training.setup import build_setup
from tests.support.ranks import run_ranks
from tests.support.runs import changed, resumes_exactly, rows, train

PLAIN = {
    "model__freeze": "backbone",
    "model__options": {"depth": 2},
    "train__cached_features": True,
    "augment": {"crop": "squash", "hflip": 0},
}


@pytest.fixture
def head_only(tree: dict[str, Any]) -> dict[str, Any]:
    return changed(tree, **PLAIN, optim__lr=0.5)


@pytest.mark.slow
def test_steps_are_nearly_those_on_images_and_evaluations_are_those_of_evaluate(
    head_only: dict[str, Any], tmp_path: Path
) -> None:
    cached = train(head_only)
    images = train(head_only, run__name="images", train__cached_features=False)
    losses = [[row["loss"] for row in rows(run, "train")] for run in (cached, images)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    (found,) = run_ranks(1, evaluate_runs, [cached], "best", [], tmp_path / "one.json", None)
    assert found == 0
    best = read_json(cached / "result.json")["best"]
    document = read_json(tmp_path / "one.json")
    assert {name: document[name] for name in ("top1", "loss")} == {name: best[name] for name in ("top1", "loss")}
    first, last = (load_file(run / "last.safetensors") for run in (cached, images))
    assert first.keys() == last.keys()
    torch.testing.assert_close(first, last, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("world_size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_resume_is_exact(head_only: dict[str, Any], world_size: int) -> None:
    resumes_exactly(changed(head_only, train__ema=0.9, model__head={"dropout": 0.2}), world_size, kept=1)


@pytest.mark.slow
def test_two_ranks_train_as_one(head_only: dict[str, Any]) -> None:
    runs = [train(head_only, ranks, run__name=str(ranks)) for ranks in (1, 2)]
    losses = [[row["loss"] for row in rows(run, "train")] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_it_says_once_how_much_faster_steps_are(head_only: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    plan = build_setup(parse_config(head_only), Dist.alone()).plan
    batches = [(torch.zeros(4, 2),)] * 30
    with caplog.at_level(logging.INFO, "dist_train"):
        assert len(list(timed(iter(batches), plan, before=100))) == 30
        assert list(timed(iter([]), plan, before=100)) == []
    (line,) = [line for line in caplog.messages if line.startswith("steps on features")]
    assert "computing the features: 100 images/s" in line
