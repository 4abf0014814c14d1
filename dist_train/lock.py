"""One process group at a time may work on a run: ``run.lock``, kept fresh by its owner's heartbeat."""

import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from dist_train.errors import ConfigError
from dist_train.files import read_json

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
DEAD_AFTER_S = 10.0


class RunLock:
    """Held by rank 0 from before the first look at checkpoints until the end of the attempt.

    A lock left behind is recognised: at once on the same host (the process is gone) or if it belongs to an
    earlier start of the same SLURM job; else by its heartbeat standing still for ``DEAD_AFTER_S``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run lock", daemon=True)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ConfigError: somebody alive holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            owner = read_json(self._path, default={})
            if not self._is_dead(owner):
                raise ConfigError(
                    f"the run {self._path.parent} is being worked on by {_describe(owner)}; "
                    "wait for it, stop it, or choose another `run.name`"
                )
            self._remove(owner)
        self._thread.start()

    def release(self) -> None:
        """Give the lock up."""
        self._ended.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Write the lock whole under a private name, then link it: of two that try at once, one succeeds."""
        private = self._path.with_name(f".{self._path.name}.{socket.gethostname()}.{os.getpid()}")
        private.write_text(json.dumps(_identity()))
        try:
            os.link(private, self._path)
        except FileExistsError:
            return False
        finally:
            private.unlink()
        return True

    def _remove(self, owner: dict[str, Any]) -> None:
        """Remove a dead owner's lock; if somebody else has just taken it over, theirs is put back."""
        aside = self._path.with_name(f".{self._path.name}.{socket.gethostname()}.{os.getpid()}.stale")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return
        if read_json(aside, default={}) == owner:
            log.warning("the lock of %s is taken over: its owner is dead (%s)", self._path.parent, _describe(owner))
        else:
            os.link(aside, self._path)
        aside.unlink()

    def _is_dead(self, owner: dict[str, Any]) -> bool:
        mine = _identity()
        if owner.get("host") == mine["host"] and owner.get("boot") == mine["boot"]:
            return _started(owner.get("pid", -1)) != owner.get("started")
        if owner.get("job") is not None and owner["job"] == mine["job"] and owner["restart"] < mine["restart"]:
            return True
        seen, deadline = self._heartbeat(), time.monotonic() + DEAD_AFTER_S
        while time.monotonic() < deadline:
            time.sleep(HEARTBEAT_S / 2)
            if self._heartbeat() != seen:
                return seen is None or self._heartbeat() is None  # it was released meanwhile
        return True

    def _heartbeat(self) -> float | None:
        try:
            return self._path.stat().st_mtime
        except FileNotFoundError:
            return None

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                os.utime(self._path)
            except OSError:
                continue  # the file system will come back, or the next checkpoint will tell


def _identity() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }


def _started(pid: int) -> int | None:
    """When a process of this host started, in clock ticks since boot: pids are used again. None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _describe(owner: dict[str, Any]) -> str:
    job = f", SLURM job {owner['job']}" if owner.get("job") else ""
    return f"process {owner.get('pid', '?')} on host {owner.get('host', '?')}{job}"
