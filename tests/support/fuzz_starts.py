"""Starts of runs for the fuzz, with a watchdog: a start that does not end is a failure with its stacks."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dist_train.drill.faults import CommandStart, Started, wait_until
from dist_train.system.processes import children, send
from tests.support.failing_proxy import FailingProxy
from tests.support.forked_start import ForkedStart
from tests.support.ranks import start_ranks
from tests.support.runs import _main
from tests.support.surroundings import Surroundings

LIMIT_S = 240.0


def _main_in(tree: dict[str, Any], surroundings: Surroundings) -> int:
    surroundings.enter()
    return _main(tree)


class LaunchStart(CommandStart):
    """Starts ``dist-train launch``; its ranks are forked one after the other."""

    def _command(self, ranks: int, options: Sequence[str]) -> list[str]:
        return ["-m", "dist_train", "launch", f"--nproc-per-node={ranks}", *options]

    def ranks(self) -> list[int]:
        assert self.agent is not None
        for pid in sorted(children(self.agent)):
            if pid not in self._ranks.values() and _is_forked(pid, self.agent):
                self._ranks[len(self._ranks)] = pid
        return list(self._ranks.values())


def _is_forked(pid: int, parent: int) -> bool:
    """Return whether a process runs the program of its parent."""
    try:
        own, given = (Path(f"/proc/{process}/cmdline").read_bytes() for process in (pid, parent))
    except OSError:
        return False
    return own == given != b""


class Starts:
    """Starts of runs below ``output``.

    Attributes:
        last: the start that was made last.
        torchrun: the share of starts by the real torchrun or ``dist-train launch``, by turns, where a fault does not need another one.
        places: folders for runs, by the kind of their file system.
        launchers: how often which kind of start was made.
        proxy: between the runs and the store of their data, if this is another machine's.
    """

    def __init__(self, output: Path, torchrun: float, places: Mapping[str, Path]) -> None:
        self.output, self.torchrun, self.places = output, torchrun, places
        self.launchers: Counter[str] = Counter()
        self.proxy: FailingProxy | None = None
        self.last: Started | None = None

    def forked(self, tree: dict[str, Any], world_size: int, surroundings: Surroundings | None = None) -> ForkedStart:
        """Start ranks that are forked with torch imported."""
        around = surroundings or Surroundings()
        self.launchers[" ".join(["forked", *(name for name, value in vars(around).items() if value is not None)])] += 1
        self.last = ForkedStart(start_ranks(world_size, _main_in, tree, around))
        return self.last

    def command(
        self, tree: dict[str, Any], world_size: int, variables: dict[str, str], folder: Path | None
    ) -> CommandStart:
        """Start a real torchrun, or ``dist-train launch``, by turns."""
        kind = LaunchStart if self.launchers["torchrun"] > self.launchers["launch"] else CommandStart
        self.launchers["launch" if kind is LaunchStart else "torchrun"] += 1
        path = self.output / f"{tree['run']['name']}.yaml"
        path.write_text(yaml.safe_dump(tree))
        arguments = ["--config", str(path)]
        faulthandler = {"PYTHONFAULTHANDLER": "1"}
        log = path.with_suffix(".log")
        log.unlink(missing_ok=True)
        self.last = kind(arguments, world_size, log, [], faulthandler | variables, folder)
        return self.last

    def wait_until(self, moment: Callable[[], bool], started: Started) -> None:
        """Wait for a moment of a start, or for its end."""
        try:
            wait_until(moment, started, LIMIT_S, 0.002)
        except TimeoutError:
            self._hangs(started)

    def wait_for_end(self, started: Started) -> None:
        """Wait until all processes of a start have ended."""
        deadline = time.monotonic() + LIMIT_S
        while started.running():
            if time.monotonic() > deadline:
                self._hangs(started)
            time.sleep(0.005)
        hung = isinstance(started, ForkedStart) and started.hung
        assert not hung, f"a rank did not end after a stop signal:\n{self.said()}"

    def said(self) -> str:
        """Return the end of what the last start printed."""
        text = self.last.said or self.last.output() if isinstance(self.last, ForkedStart) else _tails(self.output)
        return text[-20_000:]

    def _hangs(self, started: Started) -> None:
        """End the processes of a start and raise. SIGABRT makes Python print the stacks of all threads."""
        send(started.ranks(), signal.SIGCONT)
        send(started.ranks(), signal.SIGABRT)
        time.sleep(3)
        said = self.said()
        send([*started.ranks(), *([started.agent] if started.agent else [])], signal.SIGKILL)
        raise AssertionError(f"a start hangs for {LIMIT_S:.0f} s:\n{said}")

    def allow_all(self, folder: Path) -> None:
        """Let every user write in a run folder, its parents included."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder.parent, folder, *folder.rglob("*")):
            if not path.is_symlink():
                os.chmod(path, path.stat().st_mode | (0o777 if path.is_dir() else 0o666))


def _tails(folder: Path) -> str:
    newest = max(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
    return "" if newest is None else newest.read_text(errors="replace")[-20000:]
