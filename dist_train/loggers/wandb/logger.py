"""The trainer's side of W&B: decide, write the session, start the uploader process.

Nothing here imports wandb, opens a socket or waits while training runs: ``dist_train.loggers.wandb.uploader`` is a process of
its own.
"""

import importlib.util
import os
import secrets
from typing import Any

from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.loggers.base import Facts, Logger
from dist_train.loggers.upload.process import Uploader, WithUploader
from dist_train.loggers.wandb.files import client_env, how_to_sync, read_session, say, session_path
from dist_train.loggers.wandb.wanted import wanted_mode
from dist_train.system.files import write_json


class WandbLogger(WithUploader, Logger):
    """Keep one uploader process alive for the run. Do nothing if W&B is disabled or not installed."""

    def start(self, config: Config, facts: Facts) -> None:
        """Start the uploader.

        Raises:
            ConfigError: ``log.wandb.mode`` is online or offline, but wandb is not installed.
        """
        run = facts.run
        mode = wanted_mode(config, run)
        if mode == "disabled":
            return
        if importlib.util.find_spec("wandb") is None:
            if mode != "auto":
                raise ConfigError(
                    f"`log.wandb.mode` ({mode}) needs the package wandb: pip install wandb, or use disabled"
                )
            say("the package is not installed, so this run is not logged (pip install wandb)")
            return
        try:
            write_json(session_path(run), _session(config, facts, mode))
            module = "dist_train.loggers.wandb.uploader"
            self._uploader = Uploader(module, run, lambda: client_env(run), say, how_to_sync(run))
        except OSError as error:  # a full disk, or no more processes
            say(f"cannot start ({error}); training continues without W&B")


def _session(cfg: Config, facts: Facts, mode: str) -> dict[str, Any]:
    """Return the settings for the uploader."""
    known = read_session(facts.run)
    wandb = cfg.log.wandb
    return {
        "id": known.get("id") or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
        "reported": known.get("reported", {}),
        "mode": mode,
        "project": wandb.project or os.environ.get("WANDB_PROJECT") or "dist_train",
        "entity": wandb.entity or os.environ.get("WANDB_ENTITY") or None,
        "name": wandb.name or os.environ.get("WANDB_NAME") or cfg.run.name,
        "group": wandb.group,
        "job_type": wandb.job_type,
        "tags": list(wandb.tags) or None,
        "notes": wandb.notes,
        "config": cfg.model_dump(mode="json") | {"resumed_at_step": facts.step} | facts.details,
        "trainer_pid": os.getpid(),
    }
