"""Processes that ignore the stop signals, and no error from a child that dies at exit."""

import os
import signal
import subprocess
import sys

import pytest

from dist_train.system.signals import STOP_SIGNALS, say_nothing_of_dead_children
from tests.support.ranks import run_ranks

DEAF = """
import os, sys
from dist_train.system.signals import ignore_stop_signals
ignore_stop_signals()
os.kill(os.getpid(), int(sys.argv[1]))
print("alive")
"""


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_loader_processes_ignore_stop_signals(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", DEAF, str(int(number))], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def _child_dies_after_the_end() -> str:
    def complain(*_: object) -> None:
        raise RuntimeError("a loader process was killed")

    signal.signal(signal.SIGCHLD, complain)
    say_nothing_of_dead_children()
    child = os.fork()
    if child == 0:
        os._exit(1)
    os.waitpid(child, 0)
    return "nothing was said"


def test_a_child_that_dies_at_exit_raises_nothing() -> None:
    assert run_ranks(1, _child_dies_after_the_end) == ["nothing was said"]
