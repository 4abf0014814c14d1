"""The ranks of one machine, forked from a process that has imported all that they need.

torch's elastic agent cannot be used here: it waits for ever for the return value of a forked rank that ends by ``os._exit(0)``, as
ours do after some stop signals, and a rank that has finished lives on until the last one has.
"""

import os
import signal
import time
from dataclasses import dataclass

from dist_train.errors import EXIT_DONE, EXIT_STOPPED, EXIT_USER, DistTrainError
from dist_train.system import processes
from dist_train.system.signals import STOP_SIGNALS
from launch.node.rendezvous import free_port

_ALL_SAY_S = 5.0
"""How long the other ranks may take to end by themselves after one has refused the config: each refuses it, and rank 0 prints why."""
_NOTICE_S = 1.0
"""How long the other ranks may take to notice a rank that died, and to record why they fail; later they would take our SIGTERM for a stop."""
_END_S = 30.0
"""Seconds from SIGTERM to SIGKILL after a failure, as under torchrun. A save after a stop signal has no limit."""
_LOOK_S = 0.1
"""How often to look for signals and for ranks that have ended: 20 us of CPU time each."""


@dataclass(frozen=True)
class Start:
    """One start of all ranks.

    Attributes:
        restart: how often they were started before.
        restarts: how often they may be started again.
    """

    ranks: int
    restart: int
    restarts: int

    def variables(self, rank: int, port: int) -> dict[str, str]:
        """Return the environment variables that torchrun gives to a rank."""
        place = {"RANK": rank, "LOCAL_RANK": rank, "ROLE_RANK": rank, "GROUP_RANK": 0}
        sizes = {"WORLD_SIZE": self.ranks, "LOCAL_WORLD_SIZE": self.ranks, "ROLE_WORLD_SIZE": self.ranks}
        meeting = {"GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ROLE_NAME": "default"}
        elastic = {"RUN_ID": f"launch-{os.getppid()}", "USE_AGENT_STORE": False}
        elastic |= {"RESTART_COUNT": self.restart, "MAX_RESTARTS": self.restarts}
        named = {f"TORCHELASTIC_{name}": value for name, value in elastic.items()}
        return {name: str(value) for name, value in (place | sizes | meeting | named).items()}


@dataclass(frozen=True)
class Failure:
    """The first rank that failed, and its exit code; negative: the signal that killed it."""

    rank: int
    code: int

    @property
    def hopeless(self) -> bool:
        """Return whether another start would fail in the same way, or is not wanted."""
        return self.code in (EXIT_USER, EXIT_STOPPED)

    def __str__(self) -> str:
        if self.code < 0:
            return f"rank {self.rank} was killed by {signal.Signals(-self.code).name}"
        return f"rank {self.rank} ended with exit code {self.code}"


class Signals:
    """The stop signals of this process, blocked until ``next`` reads them; ranks receive their own."""

    def __init__(self) -> None:
        heard = {number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
        self._held = heard
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        self.names: list[str] = []

    def release(self) -> None:
        """Restore the signal mask from before, in a rank."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def next(self, seconds: float) -> signal.Signals | None:
        """Return a stop signal to pass on to the ranks; None after ``seconds``.

        Signals of the terminal's keys are not passed on: the kernel sends them to the ranks too, which are in our process group.
        The SIGHUP of a terminal that closes goes to the leader of the session alone: this process, where no shell started it
        (``ssh -t``, ``docker run -t``).
        """
        # Look, then sleep: a `sigtimedwait` that waits while the process is suspended (Ctrl-Z, `scontrol suspend`) for longer
        # than `seconds` returns random numbers (in CPython 3.11: a siginfo that no signal has filled).
        found = signal.sigtimedwait(self._held, 0)
        if found is None:
            time.sleep(seconds)
            return None
        number = signal.Signals(found.si_signo)
        self.names.append(number.name)
        by_key = found.si_code > 0 and number != signal.SIGHUP
        return None if by_key else number


class Ranks:
    """Fork all ranks of a start, watch them, end them."""

    def __init__(self, start: Start, signals: Signals) -> None:
        self._start, self._signals = start, signals
        self._running: dict[int, int] = {}
        self._failure: Failure | None = None
        self._failed_at = 0.0
        self._sent: signal.Signals | None = None

    def fork(self) -> bool:
        """Fork all ranks. Return True in each rank, False in the process that called.

        Raises:
            DistTrainError: the machine cannot start more processes.
        """
        port, parent = free_port(), os.getpid()
        for rank in range(self._start.ranks):
            try:
                pid = os.fork()
            except OSError as error:
                processes.send(self._running, signal.SIGKILL)
                raise DistTrainError(f"cannot start rank {rank}: {error.strerror} (see `ulimit -u`)") from None
            if pid == 0:
                self._become(rank, port, parent)
                return True
            self._running[pid] = rank
        return False

    def _become(self, rank: int, port: int, parent: int) -> None:
        processes.die_with_parent(signal.SIGUSR2)
        if os.getppid() != parent:
            processes.leave_at_once(EXIT_STOPPED)
        os.environ.update(self._start.variables(rank, port))
        self._signals.release()

    def watch(self) -> Failure | None:
        """Pass stop signals on until all ranks have ended. After a failure end the others. Return the first failure."""
        while self._running:
            if number := self._signals.next(_LOOK_S):
                processes.send(self._running, number)
            self._reap()
            self._end_others()
        return self._failure

    def _reap(self) -> None:
        for pid, rank in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._running[pid]
            code = os.waitstatus_to_exitcode(status)
            if code != EXIT_DONE and self._failure is None:
                self._failure, self._failed_at = Failure(rank, code), time.monotonic()

    def _end_others(self) -> None:
        if self._failure is None:
            return
        alone = _ALL_SAY_S if self._failure.code == EXIT_USER else _NOTICE_S
        since = time.monotonic() - self._failed_at - alone
        wanted = signal.SIGKILL if since > _END_S else signal.SIGTERM if since >= 0 else None
        if wanted and wanted != self._sent:
            processes.send(self._running, wanted)
            self._sent = wanted
