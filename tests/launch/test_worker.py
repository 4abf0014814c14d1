"""A worker becomes the trainer, and gets a signal when its agent dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.system import processes
from tests.launch.commands import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of a parent's death")

AGENT = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-m", "launch.worker", *sys.argv[1:]])
print(worker.pid, flush=True)
sys.exit(worker.wait())
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["optim.lr=1"], 2)])
def test_it_goes_on_as_the_trainer(arguments: list[str], code: int) -> None:
    command = [sys.executable, "-m", "launch.worker", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert "dist_train" in done.stdout + done.stderr


def test_the_death_of_the_agent_is_a_stop_signal(
    standin_code: Path, make_config: Callable[..., Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", AGENT, "--config", str(make_config(steps=1000))]
    env = os.environ | {"PYTHONPATH": str(standin_code)}
    agent = subprocess.Popen(command, cwd=standin_code, env=env, stdout=subprocess.PIPE, text=True)
    assert agent.stdout
    with agent.stdout:
        worker = int(agent.stdout.readline())
    result = tmp_path / "runs" / "tiny" / "result.json"
    wait_for(result.exists)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    wait_for(lambda: not processes.alive(worker))
    assert '"stopped"' in result.read_text()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    give_up_at = time.time() + seconds
    while not condition():
        assert time.time() < give_up_at
        time.sleep(0.05)
