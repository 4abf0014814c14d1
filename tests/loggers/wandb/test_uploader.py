"""The uploader with the real client: every row once, whichever process is killed or stopped."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dist_train.loggers.upload.process import CLOSE_LIMITS_S
from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, pack_predictions
from tests.support.wandb_helpers import (
    expected,
    finish,
    kill_core,
    logged_offline,
    offline_rows,
    processes_of,
    server_rows,
    start,
    train,
    wait_for,
)
from tests.support.wandb_stub import Mood, WandbStub

SLACK_S = 3.0
"""Two shared cores: what a wait may take beyond its bound."""


def test_offline_segments_of_a_stopped_and_resumed_run_hold_every_row_once(run: RunDir) -> None:
    train(run, 0, 252, "stopped", 0, "offline")  # more than one 32 KiB block
    train(run, 250, 260, "done", 0, "offline")
    first, second = offline_rows(run)
    assert (first, first + second) == (expected(252), expected(260))


@pytest.mark.parametrize("steps_per_s", [pytest.param(1, marks=pytest.mark.slow), 20])
def test_a_kill_of_everything_loses_no_row_and_doubles_none(run: RunDir, steps_per_s: int) -> None:
    """At once after the first rows, with the whole process tree: wandb's default would lose the first 15 seconds."""
    trainer = start(run, 0, 100, "hang", 1 / steps_per_s, "offline")
    wait_for(lambda: list((run.path / "wandb").glob("offline-run-*/*.wandb")) and logged_offline(run))
    victims = [*processes_of(run), trainer.pid]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    trainer.communicate()
    (before,) = offline_rows(run)
    train(run, 0, 110, "done", 0, "offline")
    assert 0 < len(before) < len(expected(110))
    assert logged_offline(run) == expected(110)


def test_online_a_stopped_and_resumed_run_is_one_run(run: RunDir, server: WandbStub) -> None:
    run.best.write_bytes(b"weights")
    run.predictions.write_bytes(pack_predictions(Predictions(5, np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), [])))
    train(run, 0, 12, "stopped", env=server.env())
    assert (server.run.states, server.run.exit_codes) == (["preempting"], [75])
    train(run, 10, 20, "done", env=server.env())
    assert server_rows(server) == expected(20)
    assert server.run.exit_codes == [75, 0]
    assert server.run.display_name == "a-run"
    assert (server.run.group, server.run.tags) == ("experiment", ["a", "b"])
    config = {key: entry["value"] for key, entry in server.run.config.items()}
    assert (config["world_size"], config["optim"]["lr"], config["attempt"]) == (2, 0.1, 2)
    assert server.run.summary["best/top1"] == pytest.approx(1 - 1 / 20)
    assert {"val/per_class", "val/confusions"} <= server.run.summary.keys()
    assert "model" in [artifact["artifactTypeName"] for artifact in server.run.artifacts]
    script = "import wandb; print([(run.id, run.state, run.summary['best/step']) for run in wandb.Api().runs('tester/tests')])"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | server.env(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == f"[('{server.run.name}', 'finished', 20)]", done.stderr
    assert server.unknown == []


@pytest.mark.parametrize(
    "mood", ["hang", pytest.param("error", marks=pytest.mark.slow), pytest.param("dead", marks=pytest.mark.slow)]
)
def test_a_server_lost_in_mid_run_costs_a_bounded_time_and_no_row(
    run: RunDir, server: WandbStub, mood: Mood | str
) -> None:
    trainer = start(run, 0, 30, "stopped", 0.1, env=server.env())
    wait_for(lambda: server.runs)
    server.kill() if mood == "dead" else setattr(server, "mood", mood)
    times, seen = finish(trainer)
    assert times["loop_s"] < 3.0 + SLACK_S
    assert times["close_s"] < CLOSE_LIMITS_S["stopped"] + SLACK_S
    assert "not everything was uploaded" in seen
    wait_for(lambda: not processes_of(run))
    if mood != "dead":
        server.mood = "ok"
        train(run, 20, 40, "done", env=server.env())
        assert server_rows(server) == expected(40)


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_killed_service_process_is_replaced(run: RunDir, server: WandbStub, how: signal.Signals) -> None:
    trainer = start(run, 0, 40, "done", 0.1, env=server.env())
    wait_for(lambda: server.runs and server.run.starts)
    kill_core(run, how)
    _, seen = finish(trainer)
    assert "lost wandb's service process" in seen
    assert server_rows(server) == expected(40)
    assert server.run.exit_codes == [0]


def test_signals_to_every_process_do_not_stop_the_uploader(run: RunDir, server: WandbStub) -> None:
    """As SLURM does it with proctrack/linuxproc; wandb-core dies of SIGTERM."""
    trainer = start(run, 0, 25, "stopped", 0.1, env=server.env())
    wait_for(lambda: server.runs and server.run.starts)
    for pid in processes_of(run):
        for name in (signal.SIGUSR2, signal.SIGTERM):
            os.kill(pid, name)
    finish(trainer)
    assert server_rows(server) == expected(25)
    assert server.run.exit_codes == [75]
