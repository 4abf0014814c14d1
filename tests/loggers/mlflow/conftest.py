"""A run folder, a folder of MLflow, and no variables of MLflow from outside."""

import os
from pathlib import Path

import pytest

from dist_train.loggers.mlflow.files import CLIENT_SETTINGS
from dist_train.run.folder import RunDir


@pytest.fixture(autouse=True)
def _no_mlflow_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("MLFLOW_")]:
        monkeypatch.delenv(key)
    for key, value in CLIENT_SETTINGS.items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path / "runs" / "a-run")
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "tracked")
