"""An agent is found with its workers, as children or by a variable, and ended with all that it has started."""

import os
import sys
import time
from collections.abc import Callable

import pytest

from dist_train.system import processes
from launch.node.agent import Agent, start_agent

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


def everything(agent: Agent) -> list[int]:
    return [agent.process.pid, *processes.descendants(agent.process.pid)]


def wait_until(true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
