"""A short fuzz, and what it notices; ``python -m tests.whole_runs.fuzz --kills 300`` is the long one."""

import faulthandler
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dist_train.drill.faults import Traces
from dist_train.run.folder import RunDir
from dist_train.run.result import Result, Status, write_result
from tests.support import fuzz_starts
from tests.support.forked_start import ForkedStart
from tests.support.fuzz_starts import Starts
from tests.support.ranks import start_ranks
from tests.whole_runs.fuzz import Tally, fuzz
from tests.whole_runs.fuzz_faults import SAVE_EVERY, Start


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_random_faults_lose_nothing(tmp_path: Path, ranks: int) -> None:
    report = fuzz(kills=6, seed=1, worlds=(ranks,), output=tmp_path, most_per_run=3)
    assert report["kills"] == 6
    assert report["most_steps_lost_after_a_stop"] == 0
    assert report["most_steps_lost_after_a_kill"] <= SAVE_EVERY


@pytest.mark.slow
def test_faults_of_the_machine_lose_nothing(tmp_path: Path) -> None:
    """In a process of its own, which gets mounts of its own."""
    command = [sys.executable, "-m", "tests.whole_runs.fuzz", "--kills", "6", "--seed", "4", "--worlds", "2"]
    subprocess.run([*command, "--json", tmp_path / "found.json"], check=True)
    assert json.loads((tmp_path / "found.json").read_text())["kills"] == 6


def test_a_start_that_hangs_is_a_failure_with_its_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_starts, "LIMIT_S", 1.0)
    starts = Starts(tmp_path, 0, {})
    starts.last = started = ForkedStart(start_ranks(1, hang, tmp_path / "ready"))
    deadline = time.monotonic() + 100
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(AssertionError, match=r"a start hangs for 1 s:\n(.|\n)*in hang"):
        starts.wait_for_end(started)
    assert not started.running()


def hang(ready: Path) -> None:
    faulthandler.enable()
    ready.touch()
    time.sleep(100)


@pytest.mark.parametrize(
    ("fault", "status", "message", "told"),
    [
        ("SIGTERM to torchrun", "running", None, False),
        ("full disk", "failed", "rank 0: ", False),
        ("full disk", "stopped", None, False),
        ("full disk", "failed", "rank 0: no space", True),
        ("SIGKILL of everything", "running", None, True),
        ("SIGTERM to torchrun", "stopped", "stopped by SIGTERM", True),
    ],
)
def test_an_end_without_a_reason_is_a_failure(
    tmp_path: Path, fault: str, status: Status, message: str | None, told: bool
) -> None:
    write_result(RunDir(tmp_path), Result(status, message=message, error="other" if status == "failed" else None))
    traces = Traces(RunDir(tmp_path))
    start = Start(random.Random(0), Starts(tmp_path, 0, {}), {}, 2, traces, "plain", frozenset(), None)
    if told:
        Tally().note(fault, start)
    else:
        with pytest.raises(AssertionError, match=r"result\.json gives no reason"):
            Tally().note(fault, start)
