"""A stop signal before the training hears signals: the process ends, and result.json says why."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dist_train.errors import EXIT_STOPPED
from dist_train.run.folder import RunDir
from dist_train.run.lock import RunLock
from dist_train.run.result import Result, read_result, write_result
from dist_train.system.signals import hear_stop_signals
from dist_train.training.stop_at_start import note_stop_at_start, stops_at_start_recorded
from tests.support.ranks import start_ranks

WAITS = """
import sys, time
from pathlib import Path
from dist_train.run.folder import RunDir
from dist_train.training.stop_at_start import stops_at_start_recorded

with stops_at_start_recorded(RunDir(Path(sys.argv[1]))):
    print("ready", flush=True)
    time.sleep(60)
"""


def stopped_while_it_waits(run: Path, number: signal.Signals, rank: str = "0") -> tuple[int, str]:
    """Return the exit code of a process that a signal hits in a wait, and what it says on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, run],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RANK": rank},
        preexec_fn=hear_stop_signals,  # tests may run under nohup
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            return process.wait(30), process.stderr.read()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP])
def test_a_signal_ends_the_process_and_is_noted(tmp_path: Path, number: signal.Signals) -> None:
    said = f"stopped by {number.name} before the first step"
    assert stopped_while_it_waits(tmp_path / "run", number) == (EXIT_STOPPED, f"{said}\n")
    known = read_result(RunDir(tmp_path / "run"))
    assert (known["status"], known["step"]) == ("stopped", 0)
    assert known["message"] == said


def test_one_rank_notes_it(tmp_path: Path) -> None:
    assert stopped_while_it_waits(tmp_path / "run", signal.SIGTERM, "1") == (EXIT_STOPPED, "")
    assert not (tmp_path / "run").exists()


def test_after_the_block_the_handlers_are_those_of_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stops_at_start_recorded(RunDir(tmp_path)):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not read_result(RunDir(tmp_path))


def test_a_killed_run_is_stopped_at_its_newest_checkpoint(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_result(run, Result("running", attempt=3, step=8, best={"step": 5, "top1": 1.0}))
    for name in ("step_00000004", "step_00000006-evaluated", "step_of_somebody"):
        (run.checkpoints / name).mkdir(parents=True)
    note_stop_at_start(run, "why")
    known = read_result(run)
    assert [known[key] for key in ("status", "attempt", "step", "message")] == ["stopped", 3, 6, "why"]
    assert known["best"] == {"step": 5, "top1": 1.0}


@pytest.mark.parametrize("status", ["done", "failed", "stopped"])
def test_a_run_that_has_ended_keeps_its_result(tmp_path: Path, status: str) -> None:
    run = RunDir(tmp_path)
    write_result(run, Result(status, message="of before"))  # type: ignore[arg-type]
    note_stop_at_start(run, "why")
    assert [read_result(run)[key] for key in ("status", "message")] == [status, "of before"]


def test_a_run_of_another_process_is_left_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_result(run, Result("running"))
    ((owner, _, output),) = start_ranks(1, hold, run.lock)
    deadline = time.monotonic() + 60
    while not run.lock.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    note_stop_at_start(run, "why")
    assert read_result(run)["status"] == "running"
    owner.kill()
    owner.join()
    output.close()
    note_stop_at_start(run, "why")
    assert read_result(run)["status"] == "stopped"


def hold(lock: Path) -> None:
    RunLock(lock).acquire()
    time.sleep(60)
