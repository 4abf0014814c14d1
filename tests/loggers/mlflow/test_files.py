"""The session in the run folder."""

import pytest

from dist_train.loggers.mlflow.files import client_env, read_session, session_path
from dist_train.run.folder import RunDir
from dist_train.system.files import write_json
from tests.support.mlflow_helpers import session


@pytest.mark.parametrize(
    "wrong", [{"key": "a' or 1=1"}, {"run_id": "../x"}, {"run_id": 3}, {"uri": None}, {"experiment": ["x"]}]
)
def test_a_session_that_no_run_wrote_is_not_used(run: RunDir, wrong: dict[str, object]) -> None:
    made = session(run, "http://host")
    assert read_session(run) == made
    write_json(session_path(run), made | wrong)
    assert read_session(run) == {}
    session_path(run).write_text("[1]")
    assert read_session(run) == {}


def test_the_client_waits_for_seconds_and_not_for_minutes() -> None:
    env = client_env("http://host")
    assert (env["MLFLOW_TRACKING_URI"], env["MLFLOW_HTTP_REQUEST_TIMEOUT"]) == ("http://host", "10")
    assert (env["MLFLOW_HTTP_REQUEST_MAX_RETRIES"], env["MLFLOW_DISABLE_TELEMETRY"]) == ("0", "true")
