"""The trainer's side of MLflow: write the session, start the uploader process. Imports no mlflow."""

import getpass
import os
import secrets
from contextlib import suppress
from typing import Any

from dist_train.config.schema import Config
from dist_train.config.values import flat
from dist_train.loggers.base import Facts, Logger
from dist_train.loggers.mlflow.files import VARIABLE, client_env, how_to_sync, read_session, say, session_path
from dist_train.loggers.mlflow.wanted import wanted_uri, without_login
from dist_train.loggers.upload.process import Uploader, WithUploader
from dist_train.run.folder import RunDir
from dist_train.system.files import json_text, write_json


class MlflowLogger(WithUploader, Logger):
    """Keep one uploader process alive for the run. Do nothing if MLflow is off."""

    def start(self, config: Config, facts: Facts) -> None:
        """Start the uploader.

        Raises:
            ConfigError: a key asks for MLflow, but its address or a package is missing.
        """
        run, uri = facts.run, wanted_uri(config)
        if uri is None:
            _say_if_logged_before(config, run)
            return
        try:
            session = _session(config, facts, without_login(uri))
            write_json(session_path(run), session)
            module = "dist_train.loggers.mlflow.uploader"
            self._uploader = Uploader(module, run, lambda: client_env(uri), say, how_to_sync(run, session["uri"]))
        except OSError as error:  # a full disk, or no more processes
            say(f"cannot start ({error}); training continues without MLflow")


def _say_if_logged_before(cfg: Config, run: RunDir) -> None:
    session = read_session(run)
    if session and cfg.log.mlflow.mode != "disabled":
        say(
            f"this run was logged to {session['uri']}, but now {VARIABLE} is not set. {how_to_sync(run, session['uri'])}"
        )


def _session(cfg: Config, facts: Facts, uri: str) -> dict[str, Any]:
    """Return the settings for the uploader. The run keeps its experiment; on another server it begins as a new one."""
    mlflow, known = cfg.log.mlflow, read_session(facts.run)
    if known and known["uri"] != uri:
        say(f"this run was logged to {known['uri']}; all its rows now go to a new run at {uri}")
        known = {}
    asked = mlflow.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "dist_train"
    if known and known["experiment"] != asked:
        say(f"this run stays in its experiment `{known['experiment']}`, not `{asked}`")
    return {
        "key": known.get("key") or secrets.token_hex(8),
        "run_id": known.get("run_id"),
        "uri": uri,
        "experiment": known.get("experiment") or asked,
        "name": mlflow.name or cfg.run.name,
        "params": {key: _text(value) for key, value in flat(cfg.model_dump(mode="json"))},
        "tags": _user() | {name: _text(value) for name, value in facts.details.items()} | mlflow.tags,
        "report": cfg.log.report,
        "trainer_pid": os.getpid(),
    }


def _user() -> dict[str, str]:
    with suppress(OSError, KeyError, ImportError):  # a user without a name, in a container
        return {"mlflow.user": getpass.getuser()}
    return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)
