"""``mlflow-sync``: what the server lacks of runs that have ended."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.loggers.mlflow.files import only_uploader_of
from dist_train.loggers.mlflow.sync import main
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from tests.support.mlflow_helpers import add_rows, assert_equal_to_file, client_of, only_run, session

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_it_sends_the_rest_and_repeats_nothing(run: RunDir, uri: str) -> None:
    session(run, uri)
    add_rows(run, 1, 6)
    write_result(run, Result(status="done"))
    run.report.write_text("<p>")
    for _ in range(2):
        assert main(["--uri", uri, str(run.path)]) == 0
    live = only_run(uri)
    assert live.info.status == "FINISHED"
    assert_equal_to_file(run, uri, live.info.run_id)
    assert [file.path for file in client_of(uri).list_artifacts(live.info.run_id)] == ["result.json"]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda run: None, "was not logged to MLflow"),
        (lambda run: (run.path / "mlflow").mkdir() or (run.path / "mlflow/session.json").write_text("{"), "is damaged"),
        (lambda run: session(run, "http://elsewhere"), "logged to http://elsewhere, not to http://127.0.0.1:9: give"),
        (lambda run: session(run, "http://127.0.0.1:9"), "INCOMPLETE: MlflowException"),
    ],
)
def test_what_it_cannot_send(
    run: RunDir, prepare: Callable[[RunDir], object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(run)
    assert main(["--uri", "http://127.0.0.1:9", str(run.path)]) == 1
    assert words in capsys.readouterr().err


def test_a_live_run_is_skipped(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    session(run, "http://127.0.0.1:9")
    with only_uploader_of(run, wait_s=0.0):
        assert main(["--uri", "http://127.0.0.1:9", str(run.path)]) == 1
    assert "live, skipped" in capsys.readouterr().err


def test_the_user_names_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "give --uri or MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_a_folder_that_cannot_be_used_does_not_stop_the_next(
    run: RunDir, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(run, uri)
    add_rows(run, 1, 3)
    write_result(run, Result(status="done"))
    (tmp_path / "loop").symlink_to("loop")
    assert main(["--uri", uri, "x" * 300, str(tmp_path / "loop"), str(run.path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert f"{'x' * 300}: File name too long" in said
    assert f"{tmp_path}/loop: Too many levels of symbolic links" in said
    assert_equal_to_file(run, uri, only_run(uri).info.run_id)
