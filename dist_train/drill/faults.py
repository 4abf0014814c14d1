"""Faults that end a run, and what its folder shows of them. The drill and the fuzz test share this file. No torch."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from dist_train.checkpoint.manifest import MANIFEST
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import read_rows
from dist_train.run.result import read_result
from dist_train.system.files import read_json
from dist_train.system.processes import alive, children, die_with_parent, send
from dist_train.system.signals import hear_stop_signals


@dataclass(frozen=True)
class Fault:
    """One fault: which processes get which signal, and when.

    Attributes:
        target: "agent" is torchrun itself, without its ranks.
        moment: "step": between two checkpoints. "save": while a checkpoint is written. "evaluation": during one.
        damage: whether to damage the newest checkpoint before the next start.
        needs_ranks: the least number of ranks; with fewer, the fault equals another one or does nothing.
    """

    name: str
    target: Literal["one rank", "all ranks", "agent", "all"]
    number: signal.Signals
    moment: Literal["step", "save", "evaluation"] = "step"
    damage: bool = False
    needs_ranks: int = 1

    @property
    def graceful(self) -> bool:
        """Return whether the run can save before it ends. If torchrun is killed, its ranks get a stop signal."""
        return self.number != signal.SIGKILL or self.target == "agent"


FAULTS = (
    Fault("stop signal to one rank", "one rank", signal.SIGUSR2),
    Fault("stop signal to all ranks", "all ranks", signal.SIGTERM, needs_ranks=2),
    Fault("stop signal during an evaluation", "one rank", signal.SIGTERM, "evaluation"),
    Fault("SIGKILL of one rank", "one rank", signal.SIGKILL, needs_ranks=2),
    Fault("SIGKILL of everything", "all", signal.SIGKILL),
    Fault("SIGKILL during a save", "all", signal.SIGKILL, "save"),
    Fault("SIGKILL during an evaluation", "all", signal.SIGKILL, "evaluation"),
    Fault("SIGKILL, newest checkpoint damaged", "all", signal.SIGKILL, damage=True),
    Fault("SIGHUP to everything, as a terminal that closes", "all", signal.SIGHUP),
    Fault("SIGHUP to torchrun", "agent", signal.SIGHUP, needs_ranks=2),
    Fault("SIGTERM to torchrun", "agent", signal.SIGTERM, needs_ranks=2),
    Fault("SIGKILL of torchrun", "agent", signal.SIGKILL, needs_ranks=2),
)


class Started(Protocol):
    """The processes of one start of a run."""

    agent: int | None
    """The process id of torchrun, if it is used."""

    def ranks(self) -> list[int]:
        """Return the process ids of all ranks seen so far, in the order of ranks."""
        ...

    def running(self) -> bool:
        """Return whether any process of the start is still alive."""
        ...


class CommandStart:
    """Starts ``python -m dist_train``, under torchrun if there are several ranks; its output goes to a file.

    Args:
        options: more options for torchrun.
        variables: more environment variables.
        folder: where it starts; Python finds the code there before that of this process.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        ranks: int,
        log: Path,
        options: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
        folder: Path | None = None,
    ) -> None:
        paths = filter(None, [str(folder or ""), *sys.path])
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), **variables}
        if ranks > 1:
            env.setdefault("OMP_NUM_THREADS", "1")  # torchrun would set the same, but print a warning
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self._command(ranks, options), *arguments],
                env=env,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to the drill only; the processes end with the drill
                preexec_fn=_as_from_a_terminal,
            )
        self.agent = self.process.pid if ranks > 1 else None
        self._ranks: dict[int, int] = {} if ranks > 1 else {0: self.process.pid}

    def _command(self, ranks: int, options: Sequence[str]) -> list[str]:
        """Return what comes between Python and the arguments of the trainer."""
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *options]
        return [*(torchrun if ranks > 1 else []), "-m", "dist_train"]

    def ranks(self) -> list[int]:
        if self.agent is not None:
            for pid in children(self.agent):
                rank = _rank_of(pid)
                if rank is not None:
                    self._ranks[rank] = pid
        return [pid for _, pid in sorted(self._ranks.items())]

    def running(self) -> bool:
        return self.process.poll() is None or any(map(alive, self._ranks.values()))


def _as_from_a_terminal() -> None:
    """Let a process that starts end with the drill and hear all signals, also where the drill runs under nohup."""
    die_with_parent()
    hear_stop_signals()


def _rank_of(pid: int) -> int | None:
    """Return the RANK in the environment of a process; None if it has none, so is not a rank."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((int(word[5:]) for word in words if word.startswith(b"RANK=")), None)


def strike(fault: Fault, started: Started, rank: int) -> None:
    """Send the fault's signal to its target; ``rank`` selects the rank for the target "one rank"."""
    ranks = started.ranks()
    agent = [] if started.agent is None else [started.agent]
    match fault.target:
        case "one rank":
            send(ranks[rank : rank + 1], fault.number)
        case "all ranks":
            send(ranks, fault.number)
        case "agent":
            send(agent, fault.number)
        case "all":
            send([*agent, *ranks], fault.number)


def wait_until(condition: Callable[[], bool], started: Started, limit_s: float, pause_s: float = 0.001) -> bool:
    """Wait until ``condition`` is true; check it every ``pause_s`` seconds.

    Returns:
        True if it became true; False if the processes ended first.

    Raises:
        TimeoutError: neither happened within ``limit_s`` seconds.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if not started.running():
            return condition()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the run made no progress for {limit_s:.0f} s")
        time.sleep(pause_s)
    return True


def wait_for_end(started: Started, limit_s: float) -> float:
    """Wait until all processes have ended; kill them after ``limit_s`` seconds.

    Returns:
        The seconds until all had ended.
    """
    began = time.monotonic()
    while started.running():
        if time.monotonic() - began > limit_s:
            send(started.ranks(), signal.SIGKILL)
            if started.agent is not None:
                send([started.agent], signal.SIGKILL)
        time.sleep(0.005)
    return time.monotonic() - began


@dataclass(frozen=True)
class Traces:
    """What a run folder shows to another process, while the run is alive or after it ended."""

    run: RunDir

    def rows(self) -> list[tuple[int, str, float]]:
        """Return step, split and loss of every row of ``metrics.jsonl``."""
        return [(row["step"], row["split"], row["loss"]) for row in read_rows(self.run.metrics)]

    def reached(self) -> int:
        """Return the last logged step; 0 if there is none."""
        return max((step for step, _, _ in self.rows()), default=0)

    def evaluating(self, every: int) -> bool:
        """Return whether the last row is a training step after which an evaluation is due."""
        rows = self.rows()
        return bool(rows) and rows[-1][0] % every == 0 and rows[-1][1] == "train"

    def _names(self, pattern: str = "step_*") -> list[str]:
        return sorted(path.name for path in self.run.checkpoints.glob(pattern))

    def saved(self) -> list[int]:
        """Return the steps of the checkpoints, oldest first."""
        return [int(name[5:13]) for name in self._names()]

    def flights(self) -> frozenset[int]:
        """Return the inodes of unfinished checkpoints: they are being written, or their writer died."""
        found = set()
        for path in self.run.checkpoints.glob(".step_*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # it has just been renamed, so it is finished
                found.add(path.stat().st_ino)
        return frozenset(found)

    def in_flight(self, stale: frozenset[int] = frozenset()) -> bool:
        """Return whether a checkpoint is being written; ``stale`` holds those that an earlier start left."""
        return bool(self.flights() - stale)

    def number(self) -> int | None:
        """Return the inode of ``metrics.jsonl``: each start replaces the file just before its first step."""
        try:
            return self.run.metrics.stat().st_ino
        except FileNotFoundError:
            return None

    def digest(self) -> str:
        """Return the digest of the newest checkpoint: weights, optimizer, EMA, loss scale and progress."""
        names = self._names()
        manifest = read_json(self.run.checkpoints / names[-1] / MANIFEST, default={}) if names else {}
        return str(manifest.get("digest", "none"))

    def status(self) -> str:
        return str(read_result(self.run).get("status", "none"))

    def damage(self, share: float, cut: bool) -> None:
        """Damage the newest checkpoint at ``share`` (0 to 1) of its length: truncate it there, or flip one bit."""
        state = max((self.run.checkpoints / self._names()[-1]).glob("state.*"))  # of several ranks, the last one's
        place = int(share * (state.stat().st_size - 1))
        if cut:
            os.truncate(state, place)
            return
        with open(state, "r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1]))

    def loss(self, fault: Fault, save_every: int) -> tuple[int, int]:
        """Return how many steps the next start repeats after ``fault``, and the allowed maximum.

        The maximum is 0 after a stop and ``save_every`` after a kill. A checkpoint that was being written adds another
        ``save_every``, since training continues during the write; so does a damaged newest checkpoint.
        """
        saved = self.saved()[: -1 if fault.damage else None]
        lost = max(0, self.reached() - (saved[-1] if saved else 0))
        if fault.graceful:
            return lost, 0
        return lost, save_every * (1 + self.in_flight() + fault.damage)
