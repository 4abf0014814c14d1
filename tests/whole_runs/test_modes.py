"""Train and eval modes in a whole run: dropout, norms, drop path, and which weights are evaluated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dist_train.checkpoint.stored import load
from dist_train.config import Config, parse_config
from dist_train.distributed.group import joined
from dist_train.distributed.stop import StopRequest
from dist_train.loggers.base import Logger
from dist_train.model.weights import load_weights
from dist_train.training.loop import evaluate_now
from dist_train.training.recorder import Recorder
from dist_train.training.setup import build_setup
from tests.support.ranks import run_ranks
from tests.support.runs import changed, rows, train


def modes_around_an_evaluation(cfg: Config) -> tuple[set[str], set[str], set[str]]:
    """Paths of the modules in train mode: before an evaluation, during it, after it."""
    with joined(cfg.distributed) as group:
        setup = build_setup(cfg, group)
        model = setup.state.model
        seen: list[set[str]] = []

        def training() -> set[str]:
            return {name for name, part in model.named_modules() if part.training}

        def look(_module: nn.Module, _inputs: Any) -> None:
            seen.append(training())

        before = training()
        hook = model.register_forward_pre_hook(look)
        evaluate_now(setup, Recorder(setup, 1, ["localhost"], lambda facts: Logger()), StopRequest(group))
        hook.remove()
        setup.checkpoints.close()
        return before, set().union(*seen), training()


def test_an_evaluation_is_in_eval_mode_and_leaves_train_mode_behind(tree: dict[str, Any]) -> None:
    model = {
        "name": "test_vit",
        "pretrained": False,
        "freeze": ["blocks.0"],
        "drop_path": 0.2,
        "head": {"dropout": 0.5},
    }
    ((before, during, after),) = run_ranks(1, modes_around_an_evaluation, parse_config(changed(tree, model=model)))
    assert during == set()
    assert before == after
    assert {"head", "blocks.1", "blocks.5.drop_path1"} <= before
    assert not {name for name in before if name.startswith("blocks.0")}


def weights_of(run: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    import json

    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    state = load(newest)
    return {**state, **json.loads((run / "result.json").read_text())}, load_weights(run / "last.safetensors")


@pytest.mark.parametrize("which", ["ema", "raw"])
def test_best_and_last_are_of_the_weights_that_the_config_says(tree: dict[str, Any], which: str) -> None:
    run = train(changed(tree, train__ema=0.99, eval__weights=which))
    state, published = weights_of(run)
    assert state["weights"] == which
    source = state["ema"] if which == "ema" else state["model"]
    assert all(torch.equal(tensor, source[name]) for name, tensor in published.items())
    assert not torch.equal(state["ema"]["head.weight"], state["model"]["head.weight"])


def test_without_an_average_the_raw_weights_are_published(tree: dict[str, Any]) -> None:
    run = train(tree, train__max_steps=2)
    state, _ = weights_of(run)
    assert state["weights"] == "raw"
    assert rows(run, "val")


def test_dropout_in_the_head_does_not_touch_evaluation(tree: dict[str, Any]) -> None:
    tree = changed(tree, optim__lr=1e-9, train__max_steps=1)
    scores = [
        rows(train(tree, run__name=f"d{n}", model__head={"dropout": dropout}), "val")[-1]["loss"]
        for n, dropout in enumerate((0.0, 0.9))
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
