"""One run in a folder of MLflow, by its real client."""

import math
from pathlib import Path
from typing import Any

import pytest

from dist_train.loggers.mlflow.remote import Remote, logged_steps, metrics_of
from dist_train.run.folder import RunDir
from tests.support.mlflow_helpers import client_of, logged, only_run, rows_of, session_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [row for step in range(first, last + 1) for row in rows_of(step)]


def test_a_row_ends_with_its_step_and_null_is_nan() -> None:
    row = {"step": 7, "epoch": 0.5, "split": "val", "loss": None, "f1@50%": 1, "note": "text"}
    found = {metric.key: metric.value for metric in metrics_of(row, 0)}
    assert list(found) == ["val/epoch", "val/loss", "val/f1_50_", "val/step"]
    assert math.isnan(found["val/loss"])
    assert logged_steps(found | {"val/a/step": 9.0, "loss": 1.0}) == {"val": 7}


def test_all_starts_are_one_run_with_its_settings_and_tags(run: RunDir, uri: str) -> None:
    session = session_of(run, uri, tags={"team": "birds"}, name="a name")
    first = Remote(session, uri)
    first.send(rows(1, 7))
    first.end("stopped")
    live = only_run(uri)
    assert (live.info.status, live.info.run_name) == ("SCHEDULED", "a name")
    assert (live.data.params["optim.lr"], live.data.params["train.global_batch"]) == ("0.1", "8")
    assert live.data.tags.items() >= {"team": "birds", "attempt": "1", "git": '{"commit": "abc"}'}.items()

    again = Remote(
        session | {"params": session["params"] | {"optim.lr": "9", "new": "x"}}, uri
    )  # the id was not stored
    assert (again.run_id, again.logged) == (first.run_id, {"train": 7, "val": 5})
    again.send(rows(8, 10))
    again.end("done")
    live = only_run(uri)
    assert (live.info.status, live.data.params["optim.lr"], live.data.params["new"]) == ("FINISHED", "0.1", "x")
    assert [step for step, _ in logged(uri, live.info.run_id)["train/loss"]] == list(range(1, 11))


def test_a_row_that_a_kill_has_cut_off_is_completed_and_not_doubled(run: RunDir, uri: str) -> None:
    session = session_of(run, uri)
    half = Remote(session, uri)
    client = client_of(uri)
    for metric in metrics_of(rows_of(1)[0], 5)[:-2]:
        client.log_metric(half.run_id, metric.key, metric.value, metric.timestamp, metric.step)
    again = Remote(session, uri)
    assert again.logged == {}
    again.send(rows(1, 2))
    found = logged(uri, again.run_id)
    assert {name: [step for step, _ in values] for name, values in found.items()} == {
        f"train/{name}": [1, 2] for name in ("epoch", "loss", "lr", "step")
    }


def test_a_run_that_somebody_deleted_gets_a_successor(run: RunDir, uri: str) -> None:
    session = session_of(run, uri)
    first = Remote(session, uri)
    client_of(uri).delete_run(first.run_id)
    for known in (first.run_id, "0" * 32):
        second = Remote(session | {"run_id": known}, uri)
        assert second.run_id == only_run(uri).info.run_id != first.run_id


def test_runs_of_a_sweep_that_begin_at_once_share_their_experiment(
    run: RunDir, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run creates the experiment between our question and our request."""
    from mlflow.tracking import MlflowClient

    client_of(uri).create_experiment("dist_train")
    real, asked = MlflowClient.get_experiment_by_name, []

    def first_none(client: Any, name: str) -> Any:
        asked.append(name)
        return real(client, name) if asked[1:] else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", first_none)
    assert Remote(session_of(run, uri), uri).run_id == only_run(uri).info.run_id


def test_long_values_and_many_of_them(run: RunDir, uri: str, tmp_path: Path) -> None:
    session = session_of(run, uri)
    session["params"] = {f"p{index}": "x" * 9000 for index in range(101)}
    session["tags"] = {f"t{index}": "y" * 9000 for index in range(101)}
    remote = Remote(session, uri)
    remote.send([{"step": 3, "split": "val", "epoch": 1.0} | {f"m{index}": float(index) for index in range(1200)}])
    (tmp_path / "page.html").write_text("<p>")
    remote.add_file(str(tmp_path / "page.html"))
    live = only_run(uri)
    assert (len(live.data.params), len(live.data.metrics)) == (101, 1202)
    assert live.data.params["p100"].endswith("x...")
    assert [file.path for file in client_of(uri).list_artifacts(remote.run_id)] == ["page.html"]
