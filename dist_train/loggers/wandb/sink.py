"""The trainer's side of W&B: start the uploader process, see that it lives, end it in bounded time.

Nothing here imports wandb, opens a socket or waits while training runs. The rows are already in
``metrics.jsonl`` when ``row`` is called; ``wandb_uploader`` is a process of its own that follows that file.
So a server that hangs, a service that is killed or a bad key cannot reach the training process, and what
was missed while W&B was away is made up from the file. At the end ``close`` waits ``CLOSE_LIMITS_S`` at most.
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

from dist_train.config import Config
from dist_train.errors import ConfigError
from dist_train.loggers.wandb.files import client_env, how_to_sync, say, session_path
from dist_train.loggers.wandb.wanted import wanted_mode
from dist_train.run.folder import RunDir
from dist_train.run.result import Status
from dist_train.system.files import read_json, write_json

CLOSE_LIMITS_S: dict[Status, float] = {"done": 30.0, "failed": 15.0, "stopped": 10.0}
"""Longest wait for W&B at the end of an attempt; a preempted one has little time left."""
MAX_RESTARTS = 3

EXIT_LOST, EXIT_INCOMPLETE = 3, 4
"""Exit codes of the uploader: start it again; it gave up in time, and said so."""


class WandbSink:
    """Keeps one uploader process alive for the run in ``run``."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._restarts = 0
        self._over = False
        self._process = self._start()

    def row(self, row: dict[str, Any]) -> None:
        """Called after ``row`` was written to ``metrics.jsonl``. Costs one system call, never waits."""
        self._revive()

    def close(self, status: Status, exit_code: int) -> None:
        """Have the rest uploaded and the W&B run marked as preempted, failed or finished."""
        limit = CLOSE_LIMITS_S.get(status, 10.0)
        deadline = time.monotonic() + limit
        while self._revive():
            left = deadline - time.monotonic()
            self._tell({"status": status, "exit_code": exit_code, "limit_s": max(1.0, left - 2.0)})
            try:
                self._process.wait(max(0.1, left))
            except subprocess.TimeoutExpired:
                self._kill()
                say(f"gave up after {limit:.0f} s. {how_to_sync(self._run)}")
                return

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "dist_train.loggers.wandb.uploader", str(self._run.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=client_env(self._run),
            start_new_session=True,  # signals to the trainer's process group are not for W&B
        )

    def _revive(self) -> bool:
        """Start the uploader again if it died; False once it is over for good."""
        if self._over:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._close_pipe()
        trouble = None
        if code not in (0, EXIT_INCOMPLETE):
            trouble = f"the uploader died {self._restarts + 1} times"
            if self._restarts < MAX_RESTARTS:
                try:
                    self._process = self._start()
                except OSError as error:  # no memory, or no more processes
                    trouble = f"the uploader cannot be started again ({error})"
                else:
                    self._restarts += 1
                    return True
        self._over = True
        if trouble:
            say(f"{trouble}; training goes on without it. {how_to_sync(self._run)}")
        return False

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it died; the exit code will tell
            self._process.stdin.write(json.dumps(message).encode() + b"\n")  # far below what a pipe holds
        self._close_pipe()

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # what could not be written any more
            self._process.stdin.close()

    def _kill(self) -> None:
        self._process.kill()  # wandb's own service process ends when this one is gone
        self._process.wait()


def open_wandb(cfg: Config, run: RunDir, step: int, facts: dict[str, Any]) -> WandbSink | None:
    """Start uploading the run; None if W&B is not wanted, or not installed.

    Call it on rank 0 only, after ``metrics.jsonl`` was rewound to ``step``.

    Args:
        step: the optimizer step that training goes on from.
        facts: what the W&B config shows beside ``cfg``: world size, git commit, SLURM ids, attempt ...

    Raises:
        ConfigError: ``log.wandb.mode`` is online or offline, and wandb is not installed.
    """
    mode = wanted_mode(cfg, run)
    if mode == "disabled":
        return None
    if importlib.util.find_spec("wandb") is None:
        if mode != "auto":
            raise ConfigError(f"`log.wandb.mode` ({mode}) needs the package wandb: pip install wandb, or use disabled")
        say("not installed, so this run is not logged there (pip install wandb)")
        return None
    try:
        write_json(session_path(run), _session(cfg, run, step, facts, mode))
        return WandbSink(run)
    except OSError as error:  # a full disk, or no more processes
        say(f"cannot start ({error}); training goes on without it")
        return None


def _session(cfg: Config, run: RunDir, step: int, facts: dict[str, Any], mode: str) -> dict[str, Any]:
    known = read_json(session_path(run), default={})
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
        "config": cfg.model_dump(mode="json") | {"resumed_at_step": step} | facts,
        "trainer_pid": os.getpid(),
    }
