"""The real wandb client behind the sink: offline files read back, online against a stub server, and every trouble."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist_train.errors import ConfigError
from dist_train.loggers.wandb import sink as wandb_sink
from dist_train.loggers.wandb.files import history, records, segments_of
from dist_train.loggers.wandb.sink import CLOSE_LIMITS_S, open_wandb
from dist_train.loggers.wandb.uploader import NewRows
from dist_train.run.folder import RunDir
from dist_train.run.predictions import Predictions, load_predictions, pack_predictions
from dist_train.run.result import read_result
from tests.support.runs import train as real_train
from tests.support.wandb_helpers import (
    expected,
    finish,
    isolated_run,
    logged_offline,
    offline_rows,
    processes_of,
    server_rows,
    start,
    train,
    wait_for,
)
from tests.support.wandb_stub import Mood, WandbStub
from tests.support.wandb_trainer import config_of

SLACK_S = 3.0
"""Two shared cores: what a wait may take beyond its bound."""

pytest.importorskip("wandb")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    return isolated_run(tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[WandbStub]:
    with WandbStub() as stub:
        yield stub


def kill_core(run: RunDir, how: signal.Signals) -> None:
    cores = [pid for pid, line in processes_of(run).items() if "wandb-core" in line]
    assert cores
    for pid in cores:
        os.kill(pid, how)


def test_offline_segments_of_a_stopped_and_resumed_run_hold_every_row_once(run: RunDir) -> None:
    train(run, 0, 252, "stopped", 0, "offline")  # more than one 32 KiB block
    train(run, 250, 260, "done", 0, "offline")
    first, second = offline_rows(run)
    assert (first, first + second) == (expected(252), expected(260))


def test_nothing_of_an_offline_run_is_copied_to_the_home_folder(run: RunDir) -> None:
    run.best.write_bytes(b"weights")
    run.predictions.write_bytes(pack_predictions(Predictions(5, np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), [])))
    train(run, 0, 5, "done", 0, "offline")
    session = json.loads((run.path / "wandb" / "session.json").read_text())
    (segment,) = segments_of(run.path / "wandb", session["id"])
    references = [entry.ref for record in records(segment) for entry in record.artifact.manifest.contents]
    assert run.best.resolve().as_uri() in references
    assert not [path for path in Path(os.environ["HOME"]).rglob("*") if path.is_file()]


@pytest.mark.parametrize("steps_per_s", [1, 20])
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
    ("mood", "reason"),
    [
        ("hang", "does not answer"),
        ("error", "answers 500"),
        ("unauthorized", "unauthorized"),
        ("dead", "does not answer"),
    ],
)
def test_trouble_at_the_start_makes_the_run_offline(
    run: RunDir, server: WandbStub, mood: Mood | str, reason: str
) -> None:
    server.kill() if mood == "dead" else setattr(server, "mood", mood)
    times, seen = train(run, 0, 10, "done", 0.05, env=server.env())
    assert logged_offline(run) == expected(10)
    (line,) = seen.splitlines()
    assert line.startswith("W&B: offline, because")
    assert reason in line
    assert times["loop_s"] < 0.5 + SLACK_S
    assert times["close_s"] < 10 + SLACK_S


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


@pytest.mark.slow
def test_a_killed_uploader_is_replaced_and_given_up_after_a_few_times(run: RunDir) -> None:
    trainer = start(run, 0, 60, "done", 0.1, "offline")
    for _ in range(1 + wandb_sink.MAX_RESTARTS):
        wait_for(lambda: processes_of(run))
        for pid in processes_of(run):
            os.kill(pid, signal.SIGKILL)
    _, seen = finish(trainer)
    assert "died 4 times; training goes on without it" in seen


def test_under_a_sweeps_agent_it_is_the_agents_run_and_nothing_leads_elsewhere(run: RunDir, server: WandbStub) -> None:
    agent = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "trial7", "WANDB_FORK_FROM": "other?_step=3"}
    train(run, 0, 5, "stopped", env=server.env() | agent)
    train(run, 5, 10, "done", env=server.env())
    assert (server.run.name, server.run.project) == ("trial7", "tests")
    assert server_rows(server) == expected(10)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_wandb_itself_judges_a_servers_certificate(run: RunDir, server: WandbStub, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server.use_tls(certificate, key)
    _, seen = train(run, 0, 5, "stopped", env=server.env())
    assert "W&B: offline, because" in seen
    assert "failed to verify certificate" in seen
    train(run, 5, 10, "done", env=server.env() | {"WANDB_INSECURE_DISABLE_SSL": "true"})
    assert server_rows(server) == expected(10)


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


def test_empty_variables_do_no_harm(run: RunDir) -> None:
    names = ("API_KEY", "ENTITY", "PROJECT", "MODE", "RUN_GROUP", "TAGS", "BASE_URL", "DIR", "INIT_TIMEOUT", "RUN_ID")
    _, seen = train(run, 0, 5, "done", env={f"WANDB_{name}": "" for name in names})
    assert logged_offline(run) == expected(5)
    assert "there is no API key" in seen


@pytest.mark.parametrize(
    ("variable", "value", "start"),
    [
        ("WANDB_API_KEY", "too-short", "W&B: offline, because AuthenticationError: WANDB_API_KEY invalid"),
        ("WANDB_BASE_URL", "nonsense", "W&B: off, because offline mode failed: ValidationError"),
    ],
)
def test_variables_that_cannot_be_right(run: RunDir, variable: str, value: str, start: str) -> None:
    _, seen = train(run, 0, 5, "done", env={"WANDB_API_KEY": "k" * 40, variable: value})
    (line,) = seen.splitlines()
    assert line.startswith(start)


def test_without_the_package(run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wandb_sink.importlib.util, "find_spec", lambda name: None)
    assert open_wandb(config_of(run.path), run, 0, {}) is None
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ConfigError, match=r"`log.wandb.mode` \(online\) needs the package wandb"):
        open_wandb(config_of(run.path, "online"), run, 0, {})


def test_a_real_training_with_two_ranks_and_a_resume(run: RunDir, tree: dict[str, Any]) -> None:
    """Rows as the trainer writes them, facts in the config, predictions that agree with the score."""
    tree["log"]["wandb"] = {"mode": "offline"}
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


def test_a_folder_that_cannot_be_written_costs_one_line(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    (run.path / "wandb").write_text("in the way")
    assert open_wandb(config_of(run.path, "offline"), run, 0, {}) is None
    assert "cannot start" in capsys.readouterr().err


class TestNewRows:
    def lines(self, *steps: int) -> bytes:
        return b"".join(json.dumps({"step": step, "split": "train"}).encode() + b"\n" for step in steps)

    def test_half_a_line_waits_for_its_rest(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        whole = self.lines(1, 2)
        path.write_bytes(whole[:-5])
        rows = NewRows(path, {})
        assert [row["step"] for row in rows.take()] == [1]
        path.write_bytes(whole)
        assert [row["step"] for row in rows.take()] == [2]

    def test_a_rewound_file_brings_only_what_is_new(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(self.lines(1, 2, 3))
        rows = NewRows(path, {"train": 1})
        assert [row["step"] for row in rows.take()] == [2, 3]
        path.write_bytes(self.lines(1))
        assert list(rows.take()) == []
        path.write_bytes(self.lines(1, 2, 3, 4))
        assert [row["step"] for row in rows.take()] == [4]

    def test_damage_and_absence_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        assert list(NewRows(path, {}).take()) == []
        path.write_bytes(b"\0\0garbage\n[1]\n" + self.lines(7))
        assert [row["step"] for row in NewRows(path, {}).take()] == [7]
