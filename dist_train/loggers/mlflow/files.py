"""The MLflow files in a run folder: the session, which makes all attempts one MLflow run, and the lock."""

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dist_train.loggers.upload.lock import alone_with
from dist_train.loggers.upload.messages import announce
from dist_train.run.folder import RunDir
from dist_train.system.files import read_json

VARIABLE = "MLFLOW_TRACKING_URI"
_KEY = re.compile(r"[0-9a-f]{16}")
_RUN_ID = re.compile(r"[0-9a-zA-Z][\w-]{0,255}")


def session_path(run: RunDir) -> Path:
    """Return the file with the MLflow run of all attempts and the other settings of the uploader."""
    return run.path / "mlflow" / "session.json"


def read_session(run: RunDir) -> dict[str, Any]:
    """Return the settings in ``session.json``; empty if it is missing, or is not one that a logger wrote."""
    session = read_json(session_path(run), default={})
    texts = ("key", "uri", "experiment", "name")
    if not isinstance(session, dict) or not all(isinstance(session.get(name), str) for name in texts):
        return {}
    run_id = session.get("run_id")
    known = run_id is None or (isinstance(run_id, str) and _RUN_ID.fullmatch(run_id))
    return session if known and _KEY.fullmatch(session["key"]) else {}


CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves, and first ask what the server has
    "MLFLOW_ALLOW_FILE_STORE": "true",  # else MLflow >= 3.7 refuses a folder
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment variables of MLflow's client."""


def client_env(uri: str) -> dict[str, str]:
    """Return the environment of the uploader."""
    package_root = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | CLIENT_SETTINGS | {VARIABLE: uri, "PYTHONPATH": paths}


def only_uploader_of(run: RunDir, wait_s: float) -> AbstractContextManager[bool]:
    """Hold the upload lock of the run. Give False if another process keeps it for longer than ``wait_s``."""
    return alone_with(run.path / "mlflow" / "lock", wait_s)


def how_to_sync(run: RunDir, uri: str) -> str:
    """Return the sentence that says how to complete the upload. ``uri`` has no password."""
    return f"`python -m dist_train mlflow-sync --uri {uri} {run.path}` uploads what is missing"


def say(message: str) -> None:
    """Print one line on stderr."""
    announce("MLflow", message)
