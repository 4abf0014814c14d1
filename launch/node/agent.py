"""The agent of one start on this node, and its workers: start, signal and end them.

Of a job on one node the agent is ``dist-train launch``, which forks the workers after one import of torch. On several nodes,
and in a container, it is torchrun's.

Agent and workers are children and grandchildren of the supervisor. In a container they need not be: pyxis starts them
from SLURM's own daemon, apptainer behind processes of its own. There they are found by a variable in their environment,
which works from outside of any container on the same kernel.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dist_train.system import processes
from dist_train.system.signals import STOP_SIGNALS
from dist_train.system.start import OF_TORCHRUN
from launch.node import rendezvous

if TYPE_CHECKING:
    from launch.jobs.job import Task

AGENT = "DIST_TRAIN_AGENT"
"""The variable that all processes of an agent have; its value is the name of the agent."""
_OF_WORKERS = "TORCHELASTIC_RUN_ID"
"""A variable that torchrun sets for its workers, and has not itself."""
_TO_WORKERS = signal.SIGUSR2  # torchrun itself never sends it
_LINGER_S = 10.0
"""How long helper processes of workers that have ended get to end by themselves."""


class Agent:
    """A running agent.

    Args:
        command: starts the agent, or a container with the agent.
        name: differs from the names of all other agents on this machine.
    """

    def __init__(self, command: list[str], env: dict[str, str], name: str) -> None:
        self.name = name
        self._seen: set[int] = set()
        # Not SIGINT: the agent handles it.
        ignored = [number for number in STOP_SIGNALS if number != signal.SIGINT]
        self.process = processes.start_guarded(command, env | {AGENT: name}, ignoring=ignored)

    def workers(self) -> list[int]:
        """Return the workers that run now."""
        found = self._workers()
        self._seen |= set(found)
        return found

    def ask_to_stop(self) -> None:
        """Send the stop signal to all workers; if there are none, to the agent, which may import for them (torchrun ignores it).

        One that has just begun to import misses it: repeat this.
        """
        processes.send(self.workers() or [self.process.pid], _TO_WORKERS)

    def kill(self) -> None:
        """Kill the agent and all processes below it."""
        processes.send([*self._others(), self.process.pid], signal.SIGKILL)

    def end_orphans(self, time_left: Callable[[], float]) -> None:
        """After the agent's death, let its workers save; then kill every process that is left.

        Args:
            time_left: returns the seconds that the workers have.
        """
        deadline = time.time() + time_left() if self._orphans() & self._seen else 0.0
        while self._orphans() & self._seen and time.time() < deadline:
            processes.send(self._orphans() & self._seen, _TO_WORKERS)
            time.sleep(0.5)
        deadline = time.time() + _LINGER_S
        while self._orphans() and not self._orphans() & self._seen and time.time() < deadline:
            time.sleep(0.1)
        self._end_all()
        processes.reap()

    def _workers(self) -> list[int]:
        return processes.children(self.process.pid)

    def _others(self) -> list[int]:
        return processes.descendants(self.process.pid)

    def _orphans(self) -> set[int]:
        processes.reap()
        return set(processes.children(os.getpid()))

    def _end_all(self) -> None:
        processes.send(processes.descendants(os.getpid()), signal.SIGKILL)


class ContainedAgent(Agent):
    """An agent in a container."""

    def _workers(self) -> list[int]:
        mine = set(self._mine()) & set(processes.with_variable(_OF_WORKERS, lambda start: True))
        parent_of = processes.parents()
        return sorted(pid for pid in mine if parent_of.get(pid) not in mine)  # not what workers have started

    def _others(self) -> list[int]:
        return list({*self._mine(), *super()._others()})

    def _orphans(self) -> set[int]:
        return super()._orphans() | set(self._mine())

    def _end_all(self) -> None:
        processes.send(self._mine(), signal.SIGKILL)
        super()._end_all()

    def _mine(self) -> list[int]:
        return processes.with_variable(AGENT, lambda name: name == self.name)


def agent_command(task: "Task", place: rendezvous.Place) -> list[str]:
    """Return the command of the agent of one node."""
    if place.nodes == 1 and task.options.container is None:
        counts = [f"--nproc-per-node={task.procs}", f"--max-restarts={task.options.max_restarts}"]
        return [sys.executable, "-m", "dist_train", "launch", *counts, "--config", task.config, *task.overrides]
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *rendezvous.agent_arguments(place),
        f"--nproc-per-node={task.procs}",
        f"--max-restarts={task.options.max_restarts}",
        "--signals-to-handle=SIGINT",  # else the agent would handle signals that it must ignore
        *("-m", "launch.worker", "--config", task.config, *task.overrides),
    ]


def start_agent(command: list[str], env: dict[str, str], name: str, contained: bool = False) -> Agent:
    """Start an agent. Variables of an agent that has started this process do not reach it."""
    clean = {key: value for key, value in env.items() if key not in (_OF_WORKERS, *OF_TORCHRUN)}
    return (ContainedAgent if contained else Agent)(command, clean, name)
