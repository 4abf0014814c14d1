"""Stacks are printed when there is no sign of life, and only then; a process that waits is made to leave."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from dist_train.distributed import watchdog
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopNow, StopRequest
from dist_train.distributed.watchdog import Watchdog
from dist_train.errors import DistTrainError
from tests.support.ranks import run_ranks

CODE = """
import time
from dist_train.distributed.watchdog import StackDump
stacks = StackDump(0.5)
stacks.beat()
{then}
time.sleep(1.0)
"""


@pytest.mark.parametrize(("then", "dumped"), [("", True), ("stacks.close()", False)])
def test_stacks_of_a_process_that_makes_no_progress(then: str, dumped: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(then=then)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ("Timeout" in done.stderr) == dumped
    assert ("line 7 in <module>" in done.stderr) == dumped


def test_stacks_are_printed_once_and_again_after_progress() -> None:
    then = "time.sleep(1.5)\nstacks.beat()\ntime.sleep(0.2)\nstacks.beat()"
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(then=then)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.count("Timeout: no progress for 0.5 s") == 2


def test_a_timer_of_somebody_else_goes_on() -> None:
    code = (
        "import faulthandler, time; faulthandler.dump_traceback_later(0.5)\n"
        "from dist_train.distributed.watchdog import StackDump\nstacks = StackDump(9)\nstacks.beat()\nstacks.close()\ntime.sleep(1.0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "Timeout (0:00:00.500000)!" in done.stderr


SUSPENDED = """
import os, time
from dist_train.distributed.watchdog import StackDump
stacks = StackDump(3)
stacks.beat()
print("begun", flush=True)
for _ in range(10):
    time.sleep(0.05)
stacks.beat()
print("went on", flush=True)
os._exit(0)
"""


def test_a_suspension_prints_no_stacks() -> None:
    process = subprocess.Popen([sys.executable, "-c", SUSPENDED], stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(3.5)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "went on\n", "")


def _quick() -> None:
    """The same in a tenth of the time."""
    watchdog.TICK_S, watchdog.GRACE_S, watchdog.LEAVE_S, watchdog.BUSY_S = 0.05, 0.5, 0.5, 3.0


def _seconds_until(error: type[BaseException], work: Any) -> float:
    began = time.monotonic()
    try:
        work()
    except error:
        return time.monotonic() - began
    return -1.0


def _compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _after_a_signal(work: str) -> float:
    """Seconds from a stop signal in a training until its main thread leaves ``work``; -1 if it does the work."""
    _quick()
    works = {
        "sleep": lambda: time.sleep(20),
        "compute": lambda: _compute(1.5),
        "compute for long": lambda: _compute(20),
    }
    dog = Watchdog(60, alone=True, exit_now=None)
    with StopRequest(Dist.alone(), watchdog=dog) as stop:
        stop.begin()
        os.kill(os.getpid(), signal.SIGTERM)
        if work == "write a checkpoint":
            with stop.patience():
                return _seconds_until(StopNow, lambda: time.sleep(1.5))
        return _seconds_until(StopNow, works[work])


@pytest.mark.parametrize("work", ["sleep", "compute for long"])
def test_after_a_signal_a_process_that_waits_leaves(work: str) -> None:
    (seconds,) = run_ranks(1, _after_a_signal, work)
    assert 0 < seconds < 15


@pytest.mark.parametrize("work", ["compute", "write a checkpoint"])
def test_a_step_and_a_save_are_ended(work: str) -> None:
    assert run_ranks(1, _after_a_signal, work) == [-1.0]


def _at_the_beginning() -> float:
    dog = Watchdog(60, alone=True, exit_now=None)
    with StopRequest(Dist.alone(), watchdog=dog):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGHUP)).start()
        return _seconds_until(StopNow, lambda: time.sleep(20))


def test_before_the_training_a_signal_ends_all_at_once() -> None:
    (seconds,) = run_ranks(1, _at_the_beginning)
    assert 0 < seconds < 4


def _hangs(work: str) -> str:
    _quick()
    dog = Watchdog(1.0, alone=True, exit_now=None)
    with StopRequest(Dist.alone(), timeout_s=1, watchdog=dog) as stop:
        stop.begin()
        for _ in range(20):
            time.sleep(0.1)
            stop.agreed()
        try:
            time.sleep(20) if work == "sleep" else _compute(20)
        except DistTrainError as error:
            return str(error)
    return "went on"


@pytest.mark.parametrize("work", ["sleep", "compute"])
def test_one_process_that_makes_no_progress_ends_after_the_timeout(work: str) -> None:
    (told,) = run_ranks(1, _hangs, work)
    assert told.startswith("no progress for `distributed.timeout_s` (1) seconds")


def _hangs_beside_a_busy_thread(work: str) -> str:
    """Collectives have no limit of their own, and another thread of this rank always computes."""
    _quick()
    watchdog.LATE_S = 0.5
    dog = Watchdog(1.0, alone=False, exit_now=None)
    threading.Thread(target=_compute, args=(4,), daemon=True).start()
    with StopRequest(Dist.alone(), timeout_s=60, watchdog=dog) as stop:
        stop.begin()
        dog.sole = True
        try:
            time.sleep(20) if work == "sleep" else _compute(3)
        except DistTrainError as error:
            return str(error)
    return "went on"


@pytest.mark.parametrize(("work", "end"), [("sleep", "no progress for"), ("compute", "went on")])
def test_a_rank_waits_if_its_main_thread_does(work: str, end: str) -> None:
    (told,) = run_ranks(1, _hangs_beside_a_busy_thread, work)
    assert told.startswith(end)


DEAF = """
import ctypes, os, threading, time
from dist_train.distributed import watchdog
from dist_train.distributed.group import Dist
from dist_train.distributed.stop import StopRequest
watchdog.GRACE_S = watchdog.LEAVE_S = 0.5
dog = watchdog.Watchdog(60, True, lambda why: os._exit({"stop": 75, "hang": 1}[why]))
with StopRequest(Dist.alone(), watchdog=dog):
    threading.Timer(0.2, os.kill, (os.getpid(), 15)).start()
    lock = ctypes.CDLL(None)
    lock.pthread_mutex_lock(ctypes.byref(mutex := ctypes.create_string_buffer(40)))
    lock.pthread_mutex_lock(ctypes.byref(mutex))  # for ever, and no signal interrupts it
"""


def test_a_main_thread_that_waits_in_c_is_ended() -> None:
    assert subprocess.run([sys.executable, "-c", DEAF], timeout=60).returncode == 75


def _forked() -> bool:
    """Whether a signal to a forked process is taken for one to this process."""
    _quick()
    dog = Watchdog(60, alone=True, exit_now=None)
    with StopRequest(Dist.alone(), watchdog=dog) as stop:
        stop.begin()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
            time.sleep(60)
        time.sleep(0.3)
        os.kill(child, signal.SIGUSR1)
        os.waitpid(child, 0)
        return _seconds_until(StopNow, lambda: time.sleep(2)) > 0


def test_a_signal_to_a_forked_process_is_its_own() -> None:
    assert run_ranks(1, _forked) == [False]
