"""Linux process facts: who descends from whom, and who dies with whom."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from dist_train.processes import children, die_with_parent, parents, send

__all__ = [
    "adopt_orphans",
    "children",
    "descendants",
    "die_with_parent",
    "reap",
    "send",
    "start_guarded",
    "with_variable",
]

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none can get lost."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start_guarded(
    command: list[str], env: dict[str, str], deaf_to: Iterable[signal.Signals]
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own that is killed when this one dies.

    It ignores the signals ``deaf_to``. Python programs keep what they inherit, so that its children are deaf
    to them too, until they install handlers of their own.
    """
    ignored = tuple(deaf_to)

    def in_child() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        die_with_parent(signal.SIGKILL)

    return subprocess.Popen(command, env=env, start_new_session=True, preexec_fn=in_child)


def descendants(pid: int) -> list[int]:
    """Everything below a process, the nearest first."""
    parent_of = parents()
    found: list[int] = []
    level = {pid}
    while level:
        level = {child for child, parent in parent_of.items() if parent in level}
        found += sorted(level)
    return found


def with_variable(name: str, value_is_stale: Callable[[str], bool]) -> list[int]:
    """Processes of this machine whose environment at their start had ``name`` with a stale value."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        values = [word.partition(b"=")[2].decode() for word in words if word.startswith(name.encode() + b"=")]
        if values and value_is_stale(values[0]):
            found.append(int(entry.parent.name))
    return found


def reap() -> None:
    """Forget adopted children that have ended. The caller must not be waiting for any other child."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
