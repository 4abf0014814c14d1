"""Ranks are forked, hear stop signals, and end together."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_train.system import processes
from tests.launch.commands import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals, /proc")

PROGRAM = """
import json, os, signal, sys, time
from launch.node.ranks import Ranks, Signals, Start
signals = Signals()
ranks = Ranks(Start(2, 1, 3), signals)
if ranks.fork():
    first, mark = os.environ["RANK"] == "0", open(sys.argv[1] + os.environ["RANK"], "w")
    def heard(number, _frame):
        mark.write(signal.Signals(number).name); mark.flush(); os._exit(0)
    {rank}
    os._exit(0)
print(ranks.watch(), signals.names)
"""
READY = "[signal.signal(n, heard) for n in (15, 2, 12, 1)]; mark.write('ready '); mark.flush(); time.sleep(60)"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    begun: list[subprocess.Popen[str]] = []

    def go(rank: str, **options: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PROGRAM.format(rank=rank), str(tmp_path / "rank")]
        env = {name: value for name, value in os.environ.items() if name != "RANK"} | {"PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, env=env, start_new_session=True, **pipes, **options))
        return begun[-1]

    yield go
    for process in begun:
        with process:
            processes.send(processes.descendants(process.pid), signal.SIGKILL)
            process.kill()


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        ("pass", "None []"),
        ("first or os._exit(3); time.sleep(60)", "rank 1 ended with exit code 3 []"),
        ("first or os.kill(os.getpid(), 9); time.sleep(60)", "rank 1 was killed by SIGKILL []"),
        ("os._exit(2 if first else 0)", "rank 0 ended with exit code 2 []"),
    ],
)
def test_the_first_failure_ends_the_others(start: Callable[..., Any], rank: str, said: str) -> None:
    assert start(rank).communicate(timeout=20)[0].strip() == said


def test_a_refused_config_is_said_by_rank_0_though_another_is_faster(start: Callable[..., Any]) -> None:
    process = start("first or os._exit(2); time.sleep(1); print('error: the reason', flush=True); os._exit(2)")
    assert process.communicate(timeout=20)[0].split("\n")[0] == "error: the reason"


def test_they_have_the_variables_of_torchrun(start: Callable[..., Any], tmp_path: Path) -> None:
    start("mark.write(json.dumps(dict(os.environ))); mark.flush()").wait(20)
    first, second = (json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2))
    assert (first["RANK"], second["RANK"], second["LOCAL_RANK"]) == ("0", "1", "1")
    assert (first["WORLD_SIZE"], first["LOCAL_WORLD_SIZE"], first["GROUP_WORLD_SIZE"]) == ("2", "2", "1")
    assert (first["TORCHELASTIC_RESTART_COUNT"], first["TORCHELASTIC_MAX_RESTARTS"]) == ("1", "3")
    assert first["MASTER_PORT"] == second["MASTER_PORT"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_is_passed_on_once(start: Callable[..., Any], tmp_path: Path, number: signal.Signals) -> None:
    process = start(READY)
    wait_until(lambda: contents(tmp_path) == ["ready ", "ready "])
    process.send_signal(number)
    assert process.communicate(timeout=20)[0].strip() == f"None ['{number.name}']"
    assert contents(tmp_path) == [f"ready {number.name}"] * 2


def test_a_suspended_launcher_goes_on(start: Callable[..., Any], tmp_path: Path) -> None:
    """As after Ctrl-Z and ``fg``, or ``scontrol suspend`` and ``resume``."""
    process = start(READY)
    wait_until(lambda: contents(tmp_path) == ["ready ", "ready "])
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1.2)
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(0.2)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=20)[0] == "None ['SIGTERM']\n"


def test_a_terminal_that_closes_stops_all(start: Callable[..., Any], tmp_path: Path) -> None:
    """Of a session without a shell (``ssh -t``): the kernel sends SIGHUP to its leader alone."""
    ours, theirs = os.openpty()
    process = start(READY, preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0))
    wait_until(lambda: contents(tmp_path) == ["ready ", "ready "])
    os.close(theirs)
    os.close(ours)
    assert process.communicate(timeout=20)[0].strip() == "None ['SIGHUP']"
    assert contents(tmp_path) == ["ready SIGHUP"] * 2


def test_the_death_of_their_parent_is_a_stop_signal(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start(READY)
    wait_until(lambda: contents(tmp_path) == ["ready ", "ready "])
    process.kill()
    wait_until(lambda: contents(tmp_path) == ["ready SIGUSR2"] * 2)


def test_a_signal_that_is_ignored_stays_so(start: Callable[..., Any], tmp_path: Path) -> None:
    """The supervisor lets its agents ignore stop signals, and signals the ranks itself."""
    process = start(READY, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    wait_until(lambda: contents(tmp_path) == ["ready ", "ready "])
    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None
    assert contents(tmp_path) == ["ready ", "ready "]


def contents(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.glob("rank?"))]


def wait_until(true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
