"""The trainer's side of W&B: start the uploader process, restart it if it dies, end it within a time limit.

Nothing here imports wandb, opens a socket or waits while training runs. A separate process,
``dist_train.loggers.wandb.uploader``, follows ``metrics.jsonl`` (which already has a row when ``row`` is called) and reads
the best weights and the predictions from the run folder. So a server that hangs, a service that is killed or a bad API key
cannot disturb the training, and rows that W&B missed are uploaded later from the file. At the end ``close`` waits at most
``CLOSE_LIMITS_S``.
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
from dist_train.loggers.wandb.files import client_env, how_to_sync, read_session, say, session_path
from dist_train.loggers.wandb.wanted import wanted_mode
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status
from dist_train.system.files import write_json

CLOSE_LIMITS_S: dict[Status, float] = {"done": 30.0, "failed": 15.0, "stopped": 10.0}
"""Time limit of the upload at the end of an attempt. It is short after a stop: a preempted job has little time left."""
MAX_RESTARTS = 3


class WandbLogger(Logger):
    """Keep one uploader process alive for the run. Do nothing if W&B is disabled or not installed."""

    def __init__(self) -> None:
        self._restarts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, config: Config, facts: Facts) -> None:
        """Start the uploader.

        Raises:
            ConfigError: ``log.wandb.mode`` is online or offline, but wandb is not installed.
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
            say("the package is not installed, so this run is not logged (pip install wandb)")
            return
        try:
            write_json(session_path(self._run), _session(config, facts, mode))
            self._process = self._start_uploader()
        except OSError as error:  # a full disk, or no more processes
            say(f"cannot start ({error}); training continues without W&B")

    def row(self, row: Row) -> None:
        """Restart the uploader if it died. It reads the row from ``metrics.jsonl``. One system call, without waiting."""
        self._living()

    def close(self, status: Status) -> None:
        """Let the uploader upload the rest and mark the W&B run as preempted, failed or finished.

        A failed attempt does not wait: the uploader ends later on its own.
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
                process.kill()  # then wandb's service process ends too
                process.wait()
                say(f"gave up after {limit:.0f} s. {how_to_sync(self._run)}")
                return

    def _start_uploader(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "dist_train.loggers.wandb.uploader", str(self._run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=client_env(self._run),
            start_new_session=True,  # a stop signal for the trainer must not reach the uploader
        )

    def _living(self) -> "subprocess.Popen[bytes] | None":
        """Return the uploader, restarted if it died; None if it has finished or cannot run."""
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
        say(f"{trouble}; training continues without W&B. {how_to_sync(self._run)}")
        return None


def _send(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    """Send the uploader its only message: how the attempt ended."""
    assert process.stdin is not None
    with suppress(OSError):  # it died; its exit code shows that
        process.stdin.write(json.dumps(message).encode() + b"\n")  # much smaller than the buffer of a pipe
    _close_pipe(process)


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    with suppress(OSError):  # text that could not be written
        process.stdin.close()


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
