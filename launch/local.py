"""``--cluster local``: run the same supervisors on this machine, without SLURM."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

from dist_train.errors import EXIT_AGAIN, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from dist_train.system import processes
from dist_train.system.signals import heard_signals
from launch.installation import pythonpath
from launch.jobs.code_copy import Snapshot
from launch.jobs.container import PASSED, env_names
from launch.jobs.job import Job, Task
from launch.jobs.job_options import SUPERVISOR, flags
from launch.node import rendezvous


def run_here(job: Job, snapshot: Snapshot, tasks: Iterable[Task] | None = None) -> int:
    """Train all runs of the job, one after the other, with one supervisor for each of ``--nodes``.

    Args:
        tasks: what to train instead; of these, one that fails does not end the others.

    Returns:
        The first exit code that is not 0.
    """
    processes.adopt_orphans()
    stop: list[int] = []
    for number in heard_signals():
        signal.signal(number, lambda number, _frame: stop.append(number))
    env = os.environ | {"PYTHONPATH": pythonpath(snapshot.code), "PYTHONSAFEPATH": "1"} | dict(job.options.env)
    env |= {PASSED: env_names(job.options)}
    failed = EXIT_DONE
    for task in snapshot.tasks if tasks is None else tasks:
        code = EXIT_AGAIN
        restart = 0
        while code == EXIT_AGAIN and not stop:
            code = _one_start(task, job.nodes, restart, env, stop)
            restart += 1
        if code and (tasks is None or stop):
            return EXIT_STOPPED if code == EXIT_AGAIN else code  # the stop signal came between two starts
        failed = failed or code
    return failed


def _one_start(task: Task, nodes: int, restart: int, env: dict[str, str], stop: list[int]) -> int:
    """Start all supervisors once. Return the exit code of node 0, or the first one that is not 0."""
    port = rendezvous.free_port()
    supervisors = [
        processes.start_guarded(_command(task, node, nodes, port, restart), env, ignoring=()) for node in range(nodes)
    ]
    passed_on = 0
    while any(supervisor.poll() is None for supervisor in supervisors):
        time.sleep(0.1)
        failed = any(supervisor.poll() not in (None, EXIT_DONE) for supervisor in supervisors)
        if len(stop) > passed_on or (failed and not passed_on):  # as srun does with --kill-on-bad-exit
            passed_on += 1
            processes.send([s.pid for s in supervisors if s.poll() is None], signal.SIGTERM)
    _end(supervisors)
    codes = [supervisor.returncode for supervisor in supervisors]
    if EXIT_AGAIN in codes:
        return EXIT_AGAIN
    return next((code if code > 0 else EXIT_FAILED for code in codes if code), EXIT_DONE)


def _end(supervisors: "list[subprocess.Popen[bytes]]") -> None:
    """Kill the processes that a killed supervisor has left."""
    left = processes.descendants(os.getpid())
    processes.send(left, signal.SIGKILL)
    for supervisor in supervisors:
        supervisor.wait()
    processes.reap()


def _command(task: Task, node: int, nodes: int, port: int, restart: int) -> list[str]:
    place = [f"--node={node}", f"--nodes={nodes}", f"--port={port}", f"--restart={restart}"]
    supervisor = [sys.executable, "-m", "launch.supervise", *place, *flags(task.options, SUPERVISOR)]
    return [*supervisor, f"--config={task.config}", *task.overrides]
