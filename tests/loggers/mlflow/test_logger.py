"""The trainer's side: the session, and an uploader process over two attempts."""

from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.loggers.base import Facts
from dist_train.loggers.mlflow.files import read_session
from dist_train.loggers.mlflow.logger import MlflowLogger, _session
from dist_train.run.folder import RunDir
from dist_train.run.result import Status
from dist_train.system.files import write_json
from tests.support.mlflow_helpers import add_rows, assert_equal_to_file, client_of, config_of, only_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def attempt(run: RunDir, uri: str, first: int, last: int, status: Status) -> None:
    logger = MlflowLogger()
    logger.start(config_of(run, uri=uri), Facts(run, total_steps=10, step=first - 1))
    add_rows(run, first, last)
    logger.row({})
    logger.close(status)


def test_two_attempts_are_one_run_with_every_row_once_and_its_files(
    run: RunDir, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run.look.write_bytes(b"a picture")
    attempt(run, uri, 1, 7, "stopped")
    assert only_run(uri).info.status == "SCHEDULED"
    attempt(run, uri, 8, 10, "done")
    live = only_run(uri)
    assert live.info.status == "FINISHED"
    assert read_session(run)["run_id"] == live.info.run_id
    assert_equal_to_file(run, uri, live.info.run_id)
    assert [file.path for file in client_of(uri).list_artifacts(live.info.run_id)] == ["look.png"]
    assert f"logging to {uri}, experiment dist_train, run {live.info.run_id}" in capfd.readouterr().err


def test_nothing_starts_where_nobody_asks_for_it(run: RunDir) -> None:
    logger = MlflowLogger()
    logger.start(config_of(run), Facts(run, total_steps=1))
    logger.row({})
    logger.close("done")
    assert list(run.path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_one_line(
    run: RunDir, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.path / "mlflow").write_text("in the way")
    MlflowLogger().start(config_of(run, uri=uri), Facts(run, total_steps=1))
    assert "cannot start" in capsys.readouterr().err


def test_what_changes_between_two_starts_is_said(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    facts = Facts(run, total_steps=1)
    first = _session(config_of(run, uri="http://a"), facts, "http://a") | {"run_id": "r1"}
    write_json(run.path / "mlflow" / "session.json", first)
    moved = _session(config_of(run, uri="http://a", experiment="birds"), facts, "http://a")
    assert (moved["key"], moved["run_id"], moved["experiment"]) == (first["key"], "r1", "dist_train")
    assert "stays in its experiment `dist_train`, not `birds`" in capsys.readouterr().err
    other = _session(config_of(run, uri="http://b"), facts, "http://b")
    assert (other["run_id"], other["key"] == first["key"]) == (None, False)
    assert "was logged to http://a; all its rows now go to a new run at http://b" in capsys.readouterr().err
    MlflowLogger().start(config_of(run), facts)
    assert "`python -m dist_train mlflow-sync --uri http://a " in capsys.readouterr().err


def test_a_password_stays_out_of_the_run_folder(run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`log.mlflow.uri`.* must not hold a password"):
        config_of(run, uri="http://me:secret@host")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    logger = MlflowLogger()
    logger.start(config_of(run), Facts(run, total_steps=1))
    written = (run.path / "mlflow" / "session.json").read_text()
    assert "http://127.0.0.1:9" in written
    assert "secret" not in written
    assert logger._uploader is not None
    process = logger._uploader._process
    assert process is not None
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
