"""How processes of a run end together, and who descends from whom (Linux). No torch."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process ``number`` when the thread that started it is gone.

    Programs that the process becomes by exec keep that.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


def leave_at_once(code: int) -> NoReturn:
    """Exit without what an interpreter does on its way out.

    After an error among ranks that is needed: taking a process group apart waits for ranks that wait for this one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def children(pid: int) -> list[int]:
    """The living children of a process (zombies are not)."""
    return [child for child, parent in parents().items() if parent == pid]


def parents() -> dict[int, int]:
    """Process -> parent, for all that run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:  # gone meanwhile
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes, some of which may be gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
