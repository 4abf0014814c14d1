"""An agent is found with its workers, as children or by a variable, and ended with all that it has started."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.system import processes
from launch.jobs.job import Task
from launch.jobs.job_options import JobOptions
from launch.node.agent import Agent, agent_command, start_agent
from launch.node.rendezvous import Place

TREE = """
import os, subprocess, sys, time
env = os.environ | {"TORCHELASTIC_RUN_ID": "7.0"}
worker = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
children = [subprocess.Popen([sys.executable, "-c", worker], env=env) for _ in range(2)]
time.sleep(60)
"""
BEHIND = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TREE!r}])"


@pytest.mark.parametrize(("program", "contained"), [(TREE, False), (TREE, True), (BEHIND, True)])
def test_its_workers_are_found_and_all_is_killed(program: str, contained: bool) -> None:
    env = {**os.environ, "TORCHELASTIC_RUN_ID": "of another"}
    agent = start_agent([sys.executable, "-c", program], env, f"a test of {os.getpid()}", contained)
    try:
        wait_until(lambda: len(agent.workers()) == 2 and len(everything(agent)) == 5 + (program is BEHIND))
        workers = agent.workers()
        assert all(len(processes.children(worker)) == 1 for worker in workers)
    finally:
        left = everything(agent)
        agent.kill()
        agent.process.wait()
    wait_until(lambda: not any(processes.alive(pid) for pid in left))
    assert agent.workers() == []


@pytest.mark.parametrize(
    ("nodes", "container", "module"),
    [
        (1, None, "dist_train launch --nproc-per-node=3"),
        (2, None, "torch.distributed.run"),
        (1, "a.sif", "torch.distributed.run"),
    ],
)
def test_workers_are_forked_on_one_node(nodes: int, container: str | None, module: str) -> None:
    task = Task("run.yaml", ["a=1"], JobOptions(procs_per_node=3, max_restarts=5, container=container))
    place = Place("7", 0, node=0, nodes=nodes, host="10.0.0.1", own="10.0.0.1", port=20000)
    command = " ".join(agent_command(task, place))
    assert f"-m {module}" in command
    assert "--max-restarts=5" in command
    assert command.endswith("--config run.yaml a=1")


def test_an_agent_without_workers_is_asked_to_stop(tmp_path: Path) -> None:
    """It still imports what the workers need, before it forks them."""
    program = f"import signal, sys, time; signal.signal(12, lambda *_: sys.exit(7)); open({str(tmp_path / 'ready')!r}, 'w'); time.sleep(60)"
    agent = start_agent([sys.executable, "-c", program], {"RANK": "1", **os.environ}, f"a test of {os.getpid()}")
    wait_until((tmp_path / "ready").exists)
    agent.ask_to_stop()
    assert agent.process.wait(20) == 7


def everything(agent: Agent) -> list[int]:
    return [agent.process.pid, *processes.descendants(agent.process.pid)]


def wait_until(true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
