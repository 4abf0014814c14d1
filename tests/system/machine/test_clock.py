"""A suspension does not count as time awake; work, waits and a busy interpreter do."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from dist_train.system.machine.clock import awake_s, ticking

CODE = """
import os, sys, time
from dist_train.system.machine.clock import awake_s, ticking
with ticking():
    began, awake = time.monotonic(), awake_s()
    print("ready", flush=True)
    sys.stdin.readline()
    print(time.monotonic() - began, awake_s() - awake, flush=True)
"""


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_suspended_process_is_not_awake(times: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(times):
        time.sleep(0.6)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(process.pid, signal.SIGCONT)
    passed, awake = map(float, process.communicate("\n", timeout=60)[0].split())
    assert passed > 3 * times
    assert 2 * times < passed - awake < 3.6 * times


def _hold_the_lock() -> None:
    """Compute for more than two seconds, without a chance for any other thread."""
    end = time.thread_time() + 2.2
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    while time.thread_time() < end:
        pass
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("work", [lambda: time.sleep(2.2), _hold_the_lock])
def test_waiting_and_computing_is_time_awake(work: Callable[[], None]) -> None:
    with ticking():
        began, awake = time.monotonic(), awake_s()
        work()
        assert awake_s() - awake == pytest.approx(time.monotonic() - began, abs=0.01)


def test_the_thread_ends_with_the_outermost_block() -> None:
    before = threading.active_count()
    with ticking():
        with ticking():
            assert threading.active_count() == before + 1
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_forked_process_has_a_clock_of_its_own() -> None:
    with ticking():
        child = os.fork()
        if not child:
            time.sleep(2.5)
            os._exit(0 if abs(awake_s() - time.monotonic()) < 0.1 else 1)
        assert os.waitpid(child, 0)[1] == 0
