"""Whether and where a run is logged."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dist_train.errors import ConfigError
from dist_train.loggers.mlflow import wanted
from dist_train.loggers.mlflow.wanted import absolute, wanted_uri, without_login
from dist_train.run.folder import RunDir
from tests.support.mlflow_helpers import config_of


def test_the_key_comes_before_the_variable_and_disabled_before_both(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wanted_uri(config_of(run)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://one:5000")
    assert wanted_uri(config_of(run)) == "http://one:5000"
    assert wanted_uri(config_of(run, uri="http://two:5000")) == "http://two:5000"
    assert wanted_uri(config_of(run, uri="http://two:5000", mode="disabled")) is None


def test_keys_without_an_address_are_refused(run: RunDir) -> None:
    with pytest.raises(ConfigError, match=r"`log.mlflow` has no `uri`, and MLFLOW_TRACKING_URI is not set"):
        wanted_uri(config_of(run, experiment="birds"))
    assert wanted_uri(config_of(run, experiment="birds", mode="disabled")) is None


@pytest.mark.parametrize(
    ("uri", "absent", "package"),
    [
        ("http://host", "mlflow", "mlflow-skinny"),
        ("sqlite:///a.db", "sqlalchemy", "mlflow"),
        ("runs", "mlflow", "mlflow-skinny"),
    ],
)
def test_a_missing_package_is_named(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, uri: str, absent: str, package: str
) -> None:
    monkeypatch.setattr(wanted.importlib.util, "find_spec", lambda name: None if name == absent else object())
    with pytest.raises(
        ConfigError, match=rf"`log.mlflow.uri` \({uri}\) needs the package {package}: pip install {package},"
    ):
        wanted_uri(config_of(run, uri=uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI"):
        wanted_uri(config_of(run))


@pytest.mark.parametrize("uri", ["htp://host:5000", "localhost:5000", "http:/host", "https:///x", "s3://bucket/runs"])
def test_an_address_that_mlflow_does_not_know_is_refused(run: RunDir, uri: str) -> None:
    with pytest.raises(ConfigError, match=rf"`log.mlflow.uri` \({uri}\) has a form that MLflow does not know"):
        wanted_uri(config_of(run, uri=uri))


def test_a_broken_address_of_the_variable_is_refused_without_its_login(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:word@[host")
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI \(\[host\) has a form that MLflow does not know"):
        wanted_uri(config_of(run))


def test_a_plugin_may_know_more(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wanted, "entry_points", lambda group: [EntryPoint("file-plugin", "a:B", group)])
    assert wanted_uri(config_of(run, uri="file-plugin:///x")) == "file-plugin:///x"


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("tracked") == str(tmp_path / "tracked")
    assert [absolute(uri) for uri in ("file:///x", "databricks", "http://h:1")] == [
        "file:///x",
        "databricks",
        "http://h:1",
    ]
    assert without_login("postgresql://me:word@host/db") == "postgresql://host/db"
    assert without_login("/folder/with@sign") == "/folder/with@sign"
    assert without_login("sqlite:///a.db") == "sqlite:///a.db"
    assert without_login("http://me:word@[host") == "[host"
