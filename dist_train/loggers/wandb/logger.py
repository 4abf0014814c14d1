"""The trainer's side of W&B: start the uploader process, see that it lives, end it in bounded time.

Nothing here imports wandb, opens a socket or waits while training runs. The rows are already in ``metrics.jsonl`` when
``row`` is called; ``dist_train.loggers.wandb.uploader`` is a process of its own that follows that file, and takes the
best weights and the predictions from the run folder. So a server that hangs, a service that is killed or a bad key cannot
reach the training process, and what was missed while W&B was away is made up from the file. At the end ``close`` waits
``CLOSE_LIMITS_S`` at most.
"""

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from dist_train.config.schema import Config
from dist_train.errors import EXIT_DONE, EXIT_INCOMPLETE, ConfigError, exit_code_of
from dist_train.loggers.base import Facts, Logger
from dist_train.loggers.wandb.files import client_env, how_to_sync, say, session_path
from dist_train.loggers.wandb.wanted import wanted_mode
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status
from dist_train.system.files import read_json, write_json

CLOSE_LIMITS_S: dict[Status, float] = {"done": 30.0, "failed": 15.0, "stopped": 10.0}
"""Longest time for W&B at the end of an attempt; a preempted one has little left."""
MAX_RESTARTS = 3


class WandbLogger(Logger):
    """Keeps one uploader process alive for the run; does nothing if W&B is disabled or not installed."""

    def __init__(self) -> None:
        self._restarts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, config: Config, facts: Facts) -> None:
        """Start uploading.

        Raises:
            ConfigError: ``log.wandb.mode`` is online or offline, and wandb is not installed.
        """
        self._run = facts.run
        mode = wanted_mode(config, facts.run)
        if mode == "disabled":
            return
        if importlib.util.find_spec("wandb") is None:
            if mode != "auto":
                raise ConfigError(
                    f"`log.wandb.mode` ({mode}) needs the package wandb: pip install wandb, or use disabled"
                )
            say("not installed, so this run is not logged there (pip install wandb)")
            return
        try:
            write_json(session_path(self._run), _session(config, facts, mode))
            self._process = self._start_uploader()
        except OSError as error:  # a full disk, or no more processes
            say(f"cannot start ({error}); training goes on without it")

    def row(self, row: Row) -> None:
        """See that the uploader lives: it finds the row in ``metrics.jsonl``. Costs one system call, never waits."""
        self._living()

    def close(self, status: Status) -> None:
        """Have the rest uploaded and the W&B run marked as preempted, failed or finished.

        A failed attempt waits for nothing: the uploader ends by itself.
        """
        limit = CLOSE_LIMITS_S.get(status, 10.0)
        deadline = time.monotonic() + limit
        while (process := self._living()) is not None:
            left = deadline - time.monotonic()
            message = {"status": status, "exit_code": exit_code_of(status), "limit_s": max(1.0, left - 2.0)}
            _send(process, message)
            if status == "failed":
                return
            try:
                process.wait(max(0.1, left))
            except subprocess.TimeoutExpired:
                process.kill()  # wandb's own service process ends when this one is gone
                process.wait()
                say(f"gave up after {limit:.0f} s. {how_to_sync(self._run)}")
                return

    def _start_uploader(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "dist_train.loggers.wandb.uploader", str(self._run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=client_env(self._run),
            start_new_session=True,  # signals to the trainer's process group are not for W&B
        )

    def _living(self) -> "subprocess.Popen[bytes] | None":
        """Return the uploader, started again if it died; None if there is nothing left for it to do, or it cannot run."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is None:
            return self._process
        _close_pipe(self._process)
        self._process = None
        if code in (EXIT_DONE, EXIT_INCOMPLETE):
            return None
        trouble = f"the uploader died {self._restarts + 1} times"
        if self._restarts < MAX_RESTARTS:
            try:
                self._process = self._start_uploader()
                self._restarts += 1
                return self._process
            except OSError as error:  # no memory, or no more processes
                trouble = f"the uploader cannot be started again ({error})"
        say(f"{trouble}; training goes on without it. {how_to_sync(self._run)}")
        return None


def _send(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    """Send the only message that the uploader ever gets: how the attempt ended."""
    assert process.stdin is not None
    with suppress(OSError):  # it died; the exit code will tell
        process.stdin.write(json.dumps(message).encode() + b"\n")  # far below what a pipe holds
    _close_pipe(process)


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    with suppress(OSError):  # what could not be written any more
        process.stdin.close()


def _session(cfg: Config, facts: Facts, mode: str) -> dict[str, Any]:
    """Return what the uploader needs to know."""
    known = read_json(session_path(facts.run), default={})
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
