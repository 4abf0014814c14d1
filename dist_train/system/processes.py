"""Process trees (Linux): find children, and end them with their parent. Imports no torch."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send the signal ``number`` to this process when the thread that started it ends.

    The setting stays after an exec.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


def leave_at_once(code: int) -> NoReturn:
    """Exit without the interpreter's clean-up.

    Needed after an error on one rank: destroying the process group would wait for ranks that wait for this one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def children(pid: int) -> list[int]:
    """Return the living children of a process, without zombies."""
    return [child for child, parent in parents().items() if parent == pid]


def parents() -> dict[int, int]:
    """Return pid -> pid of the parent, for all running processes."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:  # it has ended meanwhile
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes; ignore those that have ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def others_run() -> bool:
    """Return whether a thread of this process, besides the calling one, runs or waits only for a core."""
    for task in os.listdir("/proc/self/task"):
        if int(task) != threading.get_native_id():
            with suppress(OSError):  # it has ended meanwhile
                if Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return True
    return False


_PR_SET_CHILD_SUBREAPER = 36


_libc = ctypes.CDLL(None)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that we can still find and end it."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start_guarded(
    command: list[str], env: dict[str, str], ignoring: Iterable[signal.Signals]
) -> "subprocess.Popen[bytes]":
    """Start a process in its own session; the kernel kills it when this process dies.

    It and its children ignore the signals ``ignoring``, until they install their own handlers.
    """
    ignored = tuple(ignoring)

    def in_child() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        die_with_parent(signal.SIGKILL)

    return subprocess.Popen(command, env=env, start_new_session=True, preexec_fn=in_child)


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process, the nearest first."""
    parent_of = parents()
    found: list[int] = []
    level = {pid}
    while level:
        level = {child for child, parent in parent_of.items() if parent in level}
        found += sorted(level)
    return found


def with_variable(name: str, value_is_stale: Callable[[str], bool]) -> list[int]:
    """Return the processes of this machine whose initial environment had ``name`` with a stale value."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it has ended, or belongs to another user
            continue
        values = [word.partition(b"=")[2].decode() for word in words if word.startswith(name.encode() + b"=")]
        if values and value_is_stale(values[0]):
            found.append(int(entry.parent.name))
    return found


def reap() -> None:
    """Collect the exit codes of adopted children that have ended. The caller must not wait for any other child."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
