"""A search on real ranks: what it measures, and that it leaves nothing."""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dist_train.config import parse_config
from dist_train.distributed.group import joined
from dist_train.errors import DistTrainError
from dist_train.inference.rates.find_rate import measure, trial_config
from dist_train.inference.rates.search import LOWEST, Curve
from tests.support.ranks import run_ranks
from tests.support.runs import changed, rows, train

Found = tuple[Curve | str | None, list[str]]


def _stop() -> None:
    """Send a stop signal, as soon as the search hears them and has had time for some steps."""
    while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _measured(tree: dict[str, Any], folder: Path, steps: int, stopped: bool = False) -> Found:
    """The curve, or the error, of one rank whose temporary folder is ``folder``; and what is left there."""
    tempfile.tempdir = str(folder)
    if stopped:
        threading.Thread(target=_stop, daemon=True).start()
    cfg, found = parse_config(tree), None
    try:
        with joined(cfg.distributed) as group:
            found = measure(cfg, steps, group)
            group.gather_objects(None)  # until the folder is removed
    except DistTrainError as error:
        return str(error), os.listdir(folder)
    return found, os.listdir(folder)


def test_every_number_of_ranks_measures_the_training_of_the_config(tree: dict[str, Any], tmp_path: Path) -> None:
    tree = changed(tree, optim={"lr": 0.1, "lr_scale": {"head": 0.5}}, model__freeze=["blocks.0"], train__micro_batch=3)
    ((alone, left),) = run_ranks(1, _measured, tree, tmp_path, 20)
    assert left == []
    assert alone.rates[0] == pytest.approx(LOWEST)
    assert not (tmp_path / "runs").exists()
    for found, left in run_ranks(2, _measured, tree, tmp_path, 20):
        assert left == []
        # The last steps have rates at which differences in the last bits grow.
        assert found.losses[:12] == pytest.approx(alone.losses[:12], rel=1e-4)
    run = train(tree, log={"every_steps": 1, "tensorboard": False, "wandb": {"mode": "disabled"}}, train__max_steps=1)
    assert rows(run, "train")[0]["loss"] == alone.losses[0]


def test_a_signal_ends_it_and_nothing_is_left(tree: dict[str, Any], tmp_path: Path) -> None:
    assert run_ranks(1, _measured, tree, tmp_path, 100_000, True) == [(None, [])]


def test_an_error_leaves_nothing(tree: dict[str, Any], tmp_path: Path) -> None:
    ((error, left),) = run_ranks(1, _measured, changed(tree, model__freeze=["nothing"]), tmp_path, 20)
    assert "`model.freeze`" in error
    assert left == []


def test_the_trial_is_the_start_of_the_run_whatever_its_length(tree: dict[str, Any], tmp_path: Path) -> None:
    tree = changed(tree, optim={"lr_base": 0.1}, model={"name": "test_vit", "pretrained": False, "freeze": "backbone"})
    tree = changed(
        tree, model__unfreeze={"1": "all"}, schedule={"name": "onecycle", "pct_start": 0.1}, train__pause_epoch=1
    )
    tree = changed(tree, hooks=["my:Hook"], run__resume="must", augment={"device": True}, data__cache=str(tmp_path))
    cfg = parse_config(tree)
    trial = trial_config(cfg, 30, tmp_path)
    assert (trial.optim.lr, trial.optim.lr_base, trial.train.epochs) == (LOWEST, None, 32)
    assert (trial.hooks, trial.augment.device, trial.data.cache, trial.run.resume) == ((), False, None, "auto")
    assert (trial.model, trial.loss, trial.data.root) == (cfg.model, cfg.loss, cfg.data.root)
