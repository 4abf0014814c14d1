"""Process trees, and processes that end with their parents."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from dist_train.system import processes
from tests.support.ranks import run_ranks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PARENT = """
import os, signal, sys, time
from dist_train.system import processes
child = processes.start_guarded([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), [signal.SIGTERM])
print(child.pid, flush=True)
time.sleep(60)
"""

ORPHAN = """
import os, subprocess, sys
from dist_train.system import processes
processes.adopt_orphans()
sleep = "[sys.executable, '-c', 'import time; time.sleep(60)']"
middle = f"import subprocess, sys; print(subprocess.Popen({sleep}, stdout=subprocess.DEVNULL).pid)"
child = int(subprocess.run([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True).stdout)
print(processes.children(os.getpid()) == [child])
processes.send([child], 9)
while processes.alive(child):
    pass
print(os.path.exists(f"/proc/{child}"))
processes.reap()
print(os.path.exists(f"/proc/{child}"))
"""

DIES_WITH = """
import sys, time
from dist_train.system import processes
processes.die_with_parent()
print("ready", flush=True)
time.sleep(60)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    give_up_at = time.time() + seconds
    while not condition():
        assert time.time() < give_up_at
        time.sleep(0.05)


def test_a_guarded_process_is_deaf_and_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert processes.children(parent.pid) == [child]
        assert child in processes.descendants(os.getpid())
        processes.send([child], signal.SIGTERM)
        time.sleep(0.3)
        assert processes.children(parent.pid) == [child], "it should not have heard SIGTERM"
        parent.kill()
        parent.wait()
    wait_for(lambda: not processes.alive(child))


def test_an_orphan_is_adopted_and_forgotten_when_it_has_ended() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


def test_a_process_dies_with_its_parent() -> None:
    start = f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {DIES_WITH!r}]); print(child.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "ready\n"
        assert processes.alive(child)
        parent.kill()
        parent.wait()
    wait_for(lambda: not processes.alive(child))


def test_processes_are_found_by_a_variable() -> None:
    env = os.environ | {"START_OF_TEST": "7.0"}
    process = subprocess.Popen([sys.executable, "-c", "input()"], env=env, stdin=subprocess.PIPE)
    assert process.stdin
    with process.stdin:
        wait_for(lambda: processes.with_variable("START_OF_TEST", lambda value: value == "7.0") == [process.pid])
        assert processes.with_variable("START_OF_TEST", lambda value: value != "7.0") == []
    process.wait()


def test_leaving_at_once_runs_no_exit_handler() -> None:
    code = (
        "import atexit; from dist_train.system.processes import leave_at_once\n"
        "atexit.register(print, 'handler')\nprint('last words')\nleave_at_once(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "last words\n")


def test_a_signal_to_a_process_that_is_gone_is_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not processes.alive(process.pid)
    processes.send([process.pid], signal.SIGTERM)


def _seen_alone_and_with_a_thread_that_computes() -> tuple[bool, bool]:
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            pass

    alone = any(processes.others_run() for _ in range(3))
    thread = threading.Thread(target=compute)
    thread.start()
    try:
        return alone, processes.others_run()
    finally:
        over.set()
        thread.join()


def test_a_thread_that_computes_is_seen_and_one_that_sleeps_is_not() -> None:
    # In a process of its own: threads that other tests leave may run.
    assert run_ranks(1, _seen_alone_and_with_a_thread_that_computes) == [(False, True)]
