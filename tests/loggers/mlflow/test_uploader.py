"""The uploader: every row once, whatever dies: an answer, the server, the trainer."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_train.loggers.base import Facts
from dist_train.loggers.mlflow.logger import MlflowLogger
from dist_train.loggers.mlflow.uploader import Sender
from dist_train.loggers.upload.process import CLOSE_LIMITS_S
from dist_train.run.folder import RunDir
from tests.support.mlflow_helpers import (
    add_rows,
    assert_equal_to_file,
    client_of,
    config_of,
    end_group,
    logged,
    only_run,
    processes_of,
    served,
    server_environment,
    session,
)
from tests.support.ranks import free_port, start_ranks
from tests.support.runs import TIMINGS, _main, changed, train
from tests.support.wandb_helpers import wait_for

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SLACK_S = 5.0


@pytest.mark.parametrize("before", [True, False])
def test_an_answer_that_is_lost_doubles_no_row(
    run: RunDir, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    """The connection breaks before or after the store has taken the rows."""
    from mlflow.tracking import MlflowClient

    real, lost = MlflowClient.log_batch, []

    def breaking(client: Any, run_id: str, metrics: Any = (), **more: Any) -> None:
        fails = bool(metrics) and not lost
        if not (fails and before):
            real(client, run_id, metrics=metrics, **more)
        if fails:
            lost.append(True)
            raise ConnectionError("reset by peer")

    monkeypatch.setattr(MlflowClient, "log_batch", breaking)
    sender = Sender(run, session(run, uri), uri)
    add_rows(run, 1, 6)
    sender.try_to_send()
    add_rows(run, 7, 7)
    sender.try_to_send()  # waits
    sender._next_try = 0.0
    sender.try_to_send()
    assert_equal_to_file(run, uri, only_run(uri).info.run_id)
    said = capsys.readouterr().err
    assert said.count("ConnectionError: reset by peer. Training continues") == 1
    assert said.count("answers again; every row has been sent") == 1


def test_files_that_cannot_be_stored_keep_no_row_back(
    run: RunDir, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.tracking import MlflowClient

    def no_bucket(*args: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(MlflowClient, "log_artifact", no_bucket)
    add_rows(run, 1, 5)
    run.report.write_text("<p>")
    Sender(run, session(run, uri) | {"report": True}, uri).finish("done")
    assert only_run(uri).info.status == "FINISHED"
    assert_equal_to_file(run, uri, only_run(uri).info.run_id)
    assert "report.html was not uploaded: ModuleNotFoundError: No module named 'boto3'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return server_environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.fixture
def server(python: Path, tmp_path: Path) -> Iterator[str]:
    with served(python, tmp_path / "server") as (uri, _):
        yield uri


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_ranks_killed_and_resumed_are_one_run_on_a_real_server(tree: dict[str, Any], server: str) -> None:
    tree["schedule"] = {"name": "constant"}
    tree["log"] |= {"every_steps": 1, "mlflow": {"uri": server}, "images": True, "report": True}
    run = RunDir(Path(tree["run"]["output_dir"]) / tree["run"]["name"])
    ranks = start_ranks(2, _main, changed(tree, train__epochs=200, checkpoint={"every_steps": 3}))
    wait_for(lambda: run.saved_step() and processes_of(run) and rows_on(server) > 10, 120)
    for pid in [process.pid for process, _, _ in ranks] + processes_of(run):
        os.kill(pid, signal.SIGKILL)
    for process, pipe, output in ranks:
        process.join()
        pipe.close()
        output.close()
    reached = rows_on(server)
    epochs = run.saved_step() // 5 + 6
    train(tree, 2, train__epochs=epochs, checkpoint={"every_steps": 3})
    live = only_run(server)
    assert (live.info.status, live.data.tags["attempt"]) == ("FINISHED", "2")
    assert len(list(run.metrics.read_text().splitlines())) > reached > 10
    assert_equal_to_file(run, server, live.info.run_id, without=TIMINGS)
    files = {file.path for file in client_of(server).list_artifacts(live.info.run_id)}
    assert files == {"config.yaml", "look.png", "report.html", "result.json"}


def rows_on(server: str) -> int:
    client = client_of(server)
    experiment = client.get_experiment_by_name("dist_train")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return len(logged(server, found[0].info.run_id).get("train/step", [])) if found else 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_server_that_goes_away_costs_a_bounded_time_and_no_row(
    run: RunDir, python: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    logger = MlflowLogger()
    with served(python, tmp_path / "server", port) as (uri, server):
        logger.start(config_of(run, uri=uri), Facts(run, total_steps=30))
        add_rows(run, 1, 10)
        wait_for(lambda: rows_on(uri) == 10)
        os.killpg(server.pid, signal.SIGSTOP)  # it hangs
        add_rows(run, 11, 20)
        began = time.monotonic()
        logger.row({})
        assert time.monotonic() - began < 1
        logger.close("stopped")
        assert time.monotonic() - began < CLOSE_LIMITS_S["stopped"] + SLACK_S
        assert "mlflow-sync --uri" in capfd.readouterr().err
        end_group(server)
    logger = MlflowLogger()
    logger.start(config_of(run, uri=uri), Facts(run, total_steps=30, step=20))  # there is no server at the next start
    wait_for(lambda: "Training continues" in capfd.readouterr().err)
    add_rows(run, 21, 30)
    with served(python, tmp_path / "server", port):
        logger.close("done")
        assert only_run(uri).info.status == "FINISHED"
        assert_equal_to_file(run, uri, only_run(uri).info.run_id)
