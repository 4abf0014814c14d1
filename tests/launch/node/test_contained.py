"""The first process in a container sets again what a runtime does not hand on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from dist_train.system import processes
from tests.launch.commands import ROOT

PRINTS = "import signal; print(*(signal.getsignal(n) is signal.SIG_IGN for n in (15, 12, 10, 1, 2)), flush=True)"


def test_it_becomes_the_agent_which_ignores_stop_signals_but_an_interrupt() -> None:
    command = [sys.executable, "-m", "launch.node.contained", "-c", PRINTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True True True True False\n"


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    agent = f"import os, time; open('{tmp_path}/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-m', 'launch.node.contained', '-c', {agent!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT)
    give_up_at = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    while processes.alive(pid) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not processes.alive(pid)
