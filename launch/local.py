"""``--cluster local``: the same supervisors on this machine, without SLURM."""

import argparse
import os
import signal
import subprocess
import sys
import time

from dist_train.errors import EXIT_AGAIN, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from dist_train.system import processes
from launch import rendezvous
from launch.code_copy import Snapshot
from launch.job import Job
from launch.options import environment_pythonpath
from launch.submit import make_tasks
from launch.supervise import STOP_SIGNALS, Task


def run_here(args: argparse.Namespace, job: Job, snapshot: Snapshot) -> int:
    """Run every run of the job, one after the other; ``--nodes`` become groups of processes.

    Returns:
        The first exit code that is not 0.
    """
    processes.adopt_orphans()
    stop: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: stop.append(number))
    env = os.environ | {"PYTHONPATH": environment_pythonpath(snapshot.code), "PYTHONSAFEPATH": "1"} | dict(args.env)
    for task in make_tasks(args, job, snapshot):
        code = EXIT_AGAIN
        restart = 0
        while code == EXIT_AGAIN and not stop:
            code = _one_start(task, job.nodes, restart, env, stop)
            restart += 1
        if code:
            return EXIT_STOPPED if code == EXIT_AGAIN else code  # told to stop between two starts
    return EXIT_DONE


def _one_start(task: Task, nodes: int, restart: int, env: dict[str, str], stop: list[int]) -> int:
    """One start of all supervisors. Returns node 0's exit code, or the first bad one."""
    port = rendezvous.free_port()
    supervisors = [
        processes.start_guarded(_command(task, node, nodes, port, restart), env, deaf_to=()) for node in range(nodes)
    ]
    told = 0
    while any(supervisor.poll() is None for supervisor in supervisors):
        time.sleep(0.1)
        failed = any(supervisor.poll() not in (None, EXIT_DONE) for supervisor in supervisors)
        if len(stop) > told or (failed and not told):  # as srun does with --kill-on-bad-exit
            told += 1
            processes.send([s.pid for s in supervisors if s.poll() is None], signal.SIGTERM)
    _end(supervisors)
    codes = [supervisor.returncode for supervisor in supervisors]
    if EXIT_AGAIN in codes:
        return EXIT_AGAIN
    return next((code if code > 0 else EXIT_FAILED for code in codes if code), EXIT_DONE)


def _end(supervisors: "list[subprocess.Popen[bytes]]") -> None:
    """What a supervisor that was killed has left behind."""
    left = processes.descendants(os.getpid())
    processes.send(left, signal.SIGKILL)
    for supervisor in supervisors:
        supervisor.wait()
    processes.reap()


def _command(task: Task, node: int, nodes: int, port: int, restart: int) -> list[str]:
    return [
        *(sys.executable, "-m", "launch.supervise", f"--node={node}", f"--nodes={nodes}", f"--port={port}"),
        *(f"--restart={restart}", f"--procs-per-node={task.procs}", f"--max-restarts={task.max_restarts}"),
        *(f"--max-requeues={task.max_requeues}", f"--signal-delay={task.signal_delay}", f"--config={task.config}"),
        *task.overrides,
    ]
