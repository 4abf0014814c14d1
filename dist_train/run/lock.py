"""``run.lock``: only one process group at a time works on a run. Its owner touches the file as a heartbeat."""

import errno
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dist_train.errors import EXIT_FAILED, TakenError
from dist_train.system.files import read_json
from dist_train.system.processes import leave_at_once
from dist_train.system.start import whole_number

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
DEAD_AFTER_S = 10.0
_PLACE = ("host", "boot", "processes", "folder")
"""What two owners have in common whose process ids are of the same machine and container, for the same folder."""
NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of ``link`` on file systems without hard links: FAT, some network and FUSE file systems."""


def _leave_at_once() -> None:
    leave_at_once(EXIT_FAILED)


class RunLock:
    """The lock of a run. Rank 0 holds it from before it looks for checkpoints until the end of the attempt.

    A new owner takes over the lock of a dead one: at once if the process is gone on this host, or if it belonged to an
    earlier start of the same SLURM job; else after ``DEAD_AFTER_S`` seconds without a heartbeat. If the old owner was only
    suspended (its machine slept, or the file system did not answer), it sees that it lost the lock, and exits.

    Args:
        lost: called in the heartbeat thread when another process owns the run: write nothing more to its folder.
    """

    def __init__(self, path: Path, lost: Callable[[], object] = _leave_at_once) -> None:
        self._path, self._lost = path, lost
        self._mine: dict[str, Any] = {}
        self._folder = -1
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run lock", daemon=True)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            TakenError: a living process holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._mine, self._folder = _identity(self._path), self._path.parent.stat().st_ino
        while not self._create():
            owner = read_json(self._path, default={})
            if owner == self._mine:
                break  # a network file system created it, but its answer was lost
            if not self._is_dead(owner):
                raise TakenError(
                    f"{_describe(owner)} is working on the run {self._path.parent}; "
                    "wait for it, stop it, or choose another `run.name`"
                )
            self._remove(owner)
        self._thread.start()

    def release(self) -> None:
        """Remove the lock if it is still ours. If that fails, the next owner finds it without a heartbeat."""
        self._ended.set()
        self._thread.join()
        try:
            if read_json(self._path) == self._mine:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s (%s); the next start takes it over", self._path, error)

    def _create(self) -> bool:
        """Write the lock under a private name, then link it: if two processes try at the same time, one succeeds."""
        private = self._private()
        text = json.dumps(self._mine)
        try:
            private.write_text(text)
            os.link(private, self._path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                error.filename = error.filename or str(private)  # a write to a full disk does not name its file
                raise
            return self._create_in_place(text)
        finally:
            private.unlink(missing_ok=True)
        return True

    def _create_in_place(self, text: str) -> bool:
        """Create the lock without hard links. A reader that comes before the text is written waits for a heartbeat."""
        try:
            with open(self._path, "x") as file:
                file.write(text)
        except FileExistsError:
            return False
        return True

    def _private(self) -> Path:
        return self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")

    def _remove(self, owner: dict[str, Any]) -> None:
        """Remove a dead owner's lock. If another process has just taken it over, put that lock back."""
        aside = self._private()
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return
        if read_json(aside, default={}) == owner:
            log.warning("taking over the lock of %s: its owner is dead (%s)", self._path.parent, _describe(owner))
            aside.unlink()
        else:
            os.rename(aside, self._path)

    def _is_dead(self, owner: dict[str, Any]) -> bool:
        mine = self._mine
        if all(owner.get(key) == mine[key] for key in _PLACE):
            return _started(owner.get("pid", -1)) != owner.get("started")
        if owner.get("job") is not None and owner["job"] == mine["job"] and owner["restart"] < mine["restart"]:
            return True
        seen, deadline = self._heartbeat(), time.monotonic() + DEAD_AFTER_S
        while time.monotonic() < deadline:
            time.sleep(HEARTBEAT_S / 2)
            if self._heartbeat() != seen:
                return seen is None or self._heartbeat() is None  # its owner released it meanwhile
        return True

    def _heartbeat(self) -> float | None:
        """Return the time of the last heartbeat; None without a lock. Opening the file makes NFS ask its server."""
        try:
            with open(self._path) as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                lost = not self._keep()
            except (OSError, ValueError):
                continue  # the file system recovers, or the next checkpoint fails with a clear error
            if lost and not self._ended.is_set():
                self._lost()
                return

    def _keep(self) -> bool:
        """Touch the lock if it is ours; create it again if it was removed. Return False if another process has the run."""
        try:
            owner = json.loads(self._path.read_text())
        except FileNotFoundError:
            if not self._path.parent.is_dir() or self._path.parent.stat().st_ino != self._folder:
                log.error("the run folder %s was moved or removed; stopping", self._path.parent)
                return False
            return self._create() or self._keep()
        if owner != self._mine:
            log.error("%s took over %s; stopping", _describe(owner), self._path.parent)
            return False
        os.utime(self._path)
        return True


def held_by_another(path: Path) -> bool:
    """Return whether another process seems to hold a lock. It waits for no heartbeat, so it can take a dead one for alive."""
    owner = read_json(path, default={})
    if not owner:
        return False
    mine = _identity(path)
    if all(owner.get(key) == mine[key] for key in _PLACE):
        pid = owner.get("pid", -1)
        return bool(pid != mine["pid"] and _started(pid) == owner.get("started"))
    try:
        return time.time() - path.stat().st_mtime < 3 * DEAD_AFTER_S  # the clocks of two hosts differ
    except FileNotFoundError:
        return False


def _identity(path: Path) -> dict[str, Any]:
    """Return what identifies this owner. ``folder`` detects a copied run folder, ``processes`` another container."""
    return {
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "processes": os.readlink("/proc/self/ns/pid"),
        "folder": str(path.parent.resolve()),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": whole_number("SLURM_RESTART_COUNT", 0),
        "key": secrets.token_hex(8),
    }


def _started(pid: int) -> int | None:
    """Return when a process of this host started, in clock ticks since boot (pids are reused); None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _describe(owner: dict[str, Any]) -> str:
    job = f", SLURM job {owner['job']}" if owner.get("job") else ""
    return f"process {owner.get('pid', '?')} on host {owner.get('host', '?')}{job}"
