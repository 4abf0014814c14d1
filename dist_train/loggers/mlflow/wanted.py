"""Decide whether a run is logged to MLflow and where, without importing mlflow."""

import importlib.util
import os
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from dist_train.config.schema import Config
from dist_train.config.values import is_set
from dist_train.errors import ConfigError
from dist_train.loggers.mlflow.files import VARIABLE

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SCHEMES = ("", "file", "http", "https", "databricks", "databricks-uc", "uc", *DATABASES)
"""Of the addresses that MLflow's client knows without a plugin."""


def wanted_uri(cfg: Config) -> str | None:
    """Return the address of the MLflow server, database or folder; None if MLflow is off.

    Raises:
        ConfigError: keys of ``log.mlflow`` are set, but no address is given, MLflow does not know this kind of
            address, or a package that it needs is missing.
    """
    settings = cfg.log.mlflow
    uri = settings.uri or os.environ.get(VARIABLE)
    if settings.mode == "disabled":
        return None
    if not uri:
        if any(is_set(cfg, f"log.mlflow.{key}") for key in ("experiment", "name", "tags")):
            raise ConfigError(
                f"`log.mlflow` has no `uri`, and {VARIABLE} is not set: give the address of a server in one of them "
                "(http://host:5000, sqlite:///FILE or a folder), or remove `log.mlflow`"
            )
        return None
    where = "`log.mlflow.uri`" if settings.uri else VARIABLE
    if not _is_known(uri):
        raise ConfigError(
            f"{where} ({without_login(uri)}) has a form that MLflow does not know: give http://host:5000, sqlite:///FILE or a folder"
        )
    absent = _missing_package(uri)
    if absent:
        raise ConfigError(
            f"{where} ({without_login(uri)}) needs the package {absent}: pip install {absent}, or set "
            "log.mlflow.mode=disabled"
        )
    return absolute(uri)


def _is_known(uri: str) -> bool:
    """Return whether MLflow, or one of its plugins, has a store for addresses of this form."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # http://[host
        return False
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return bool(parts.netloc)
    return scheme in SCHEMES or any(each.name == scheme for each in entry_points(group="mlflow.tracking_store"))


def _missing_package(uri: str) -> str | None:
    """Return the package to install; mlflow-skinny is enough for a server or a folder, but not for a database."""
    database = urlsplit(uri).scheme.partition("+")[0] in DATABASES
    needed = {"mlflow": "mlflow"} | ({"sqlalchemy": "mlflow", "alembic": "mlflow"} if database else {})
    if all(importlib.util.find_spec(name) for name in needed):
        return None
    return "mlflow" if database else "mlflow-skinny"


def absolute(uri: str) -> str:
    """Return the address; a folder as an absolute path, since a requeued job may start in another folder."""
    if urlsplit(uri).scheme or uri.startswith("databricks"):
        return uri
    return str(Path(uri).expanduser().resolve())


def without_login(uri: str) -> str:
    """Return the address without user and password.

    >>> without_login("https://me:secret@mlflow.example.org/x")
    'https://mlflow.example.org/x'
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.rpartition("@")[2]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri
