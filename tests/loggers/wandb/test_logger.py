"""The trainer's side: the uploader is started, restarted, and ended within a time limit."""

import json
import os
import signal
from typing import Any

import pytest

from dist_train.errors import ConfigError
from dist_train.loggers.base import Facts
from dist_train.loggers.upload.process import MAX_RESTARTS
from dist_train.loggers.wandb import logger as wandb_logger
from dist_train.loggers.wandb.files import history, segments_of
from dist_train.loggers.wandb.logger import WandbLogger
from dist_train.run.folder import RunDir
from dist_train.run.predictions import load_predictions
from dist_train.run.result import read_result
from tests.support.runs import train as real_train
from tests.support.wandb_helpers import (
    expected,
    finish,
    processes_of,
    server_rows,
    start,
    train,
    wait_for,
)
from tests.support.wandb_stub import WandbStub
from tests.support.wandb_trainer import config_of


def started(run: RunDir, mode: str = "auto") -> bool:
    """Whether the uploader runs."""
    logger = WandbLogger()
    logger.start(config_of(run.path, mode), Facts(run, total_steps=1))
    running = logger._uploader is not None
    logger.close("stopped")
    return running


def test_without_the_package(run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wandb_logger.importlib.util, "find_spec", lambda name: None)
    assert not started(run)
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ConfigError, match=r"`log.wandb.mode` \(online\) needs the package wandb"):
        started(run, "online")


def test_a_folder_that_cannot_be_written_costs_one_line(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    (run.path / "wandb").write_text("in the way")
    assert not started(run, "offline")
    assert "cannot start" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_uploader_is_replaced_and_given_up_after_a_few_times(run: RunDir) -> None:
    trainer = start(run, 0, 60, "done", 0.1, "offline")
    for _ in range(1 + MAX_RESTARTS):
        wait_for(lambda: processes_of(run))
        for pid in processes_of(run):
            os.kill(pid, signal.SIGKILL)
    _, seen = finish(trainer)
    assert "died 4 times; training continues without this upload" in seen


def test_a_failing_attempt_waits_for_nothing_and_its_rows_arrive(run: RunDir, server: WandbStub) -> None:
    times, _ = train(run, 0, 10, "failed", 0.05, env=server.env())
    assert times["close_s"] < 1.0
    wait_for(lambda: not processes_of(run))
    assert server_rows(server) == expected(10)
    assert server.run.exit_codes == [1]


def test_under_a_sweeps_agent_it_is_the_agents_run_and_nothing_leads_elsewhere(run: RunDir, server: WandbStub) -> None:
    agent = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "trial7", "WANDB_FORK_FROM": "other?_step=3"}
    train(run, 0, 5, "stopped", env=server.env() | agent)
    train(run, 5, 10, "done", env=server.env())
    assert (server.run.name, server.run.project) == ("trial7", "tests")
    assert server_rows(server) == expected(10)


def test_a_real_training_with_two_ranks_and_a_resume(run: RunDir, tree: dict[str, Any]) -> None:
    """Rows as the trainer writes them, facts in the config, predictions that agree with the score."""
    tree["log"]["wandb"] = {"mode": "offline"}
    tree["schedule"] = {"name": "constant"}
    real_train(tree, 2, train__epochs=1)
    folder = RunDir(real_train(tree, 2))
    session = json.loads((folder.path / "wandb" / "session.json").read_text())
    segments = segments_of(folder.path / "wandb", session["id"])
    logged = [row for segment in segments for row in history(segment)]
    assert len(segments) == 2
    assert [row["train/step"] for row in logged if "train/step" in row] == [2, 4, 5, 6, 8, 10]
    assert [row["val/step"] for row in logged if "val/step" in row] == [5, 10]
    assert {"train/loss", "train/lr", "train/grad_norm", "train/slowest_rank", "epoch"} <= logged[-2].keys() | logged[
        0
    ].keys()
    assert session["config"]["plan"]["global_batch"] == 12
    assert (session["config"]["world_size"], session["config"]["attempt"]) == (2, 2)
    predictions = load_predictions(folder.predictions)
    assert predictions is not None
    assert 100 * (predictions.pred_N == predictions.label_N).mean() == pytest.approx(
        read_result(folder)["best"]["top1"]
    )
    assert predictions.paths[0].startswith("val/class_a/")
