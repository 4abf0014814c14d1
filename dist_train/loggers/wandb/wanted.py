"""Decide whether a run is logged to W&B, without importing wandb."""

import configparser
import netrc
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from dist_train.config.schema import Config
from dist_train.config.values import is_set
from dist_train.loggers.wandb.files import session_path
from dist_train.run.folder import RunDir

VARIABLES = (
    *("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_NAME"),
    *("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_SWEEP_ID"),
)
"""Variables that only users of W&B set."""


def wanted_mode(cfg: Config, run: RunDir) -> str:
    """Return ``log.wandb.mode``, where ``auto`` becomes ``disabled`` if nothing asks for W&B.

    ``auto`` follows ``WANDB_MODE`` and ``WANDB_DISABLED``. A run that is already logged to W&B stays logged.
    """
    mode = cfg.log.wandb.mode
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true"):
        return "disabled"
    from_env = os.environ.get("WANDB_MODE", "").lower()
    if from_env in ("online", "offline", "disabled"):
        return from_env
    named = any(is_set(cfg, f"log.wandb.{key}") for key in type(cfg.log.wandb).model_fields)
    asked = named or any(map(os.environ.get, VARIABLES)) or session_path(run).exists()
    return "auto" if asked or _logged_in() else "disabled"


def _logged_in() -> bool:
    """Return whether ``wandb login`` has stored a key for the server in the netrc file."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    with suppress(OSError, netrc.NetrcParseError):
        return urlsplit(_server()).netloc in netrc.netrc(path).hosts
    return False


def _server() -> str:
    settings = configparser.ConfigParser()
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    with suppress(configparser.Error, UnicodeDecodeError):  # read() ignores a missing file
        settings.read(Path(folder).expanduser() / "settings")
    in_file = settings.get("default", "base_url", fallback="https://api.wandb.ai")
    return os.environ.get("WANDB_BASE_URL") or in_file
