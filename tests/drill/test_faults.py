"""Faults hit whom they name, and a run folder shows what became of the run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dist_train.drill.faults import FAULTS, Fault, Traces, strike, wait_for_end, wait_until
from dist_train.run.folder import RunDir
from dist_train.system.processes import alive


class Sleepers:
    """A torchrun and two ranks that do nothing."""

    def __init__(self) -> None:
        self.processes = [subprocess.Popen([sys.executable, "-Sc", "import time; time.sleep(60)"]) for _ in range(3)]
        self.agent = self.processes[0].pid

    def ranks(self) -> list[int]:
        return [process.pid for process in self.processes[1:]]

    def running(self) -> bool:
        return any(process.poll() is None for process in self.processes)


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    started = Sleepers()
    yield started
    for process in started.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("target", "hit"), [("one rank", [2]), ("all ranks", [1, 2]), ("agent", [0]), ("all", [0, 1, 2])]
)
def test_a_fault_hits_whom_it_names(sleepers: Sleepers, target: Any, hit: list[int]) -> None:
    strike(Fault("a", target, signal.SIGKILL), sleepers, rank=1)
    for number in hit:
        assert sleepers.processes[number].wait(10) == -signal.SIGKILL
    spared = [process for number, process in enumerate(sleepers.processes) if number not in hit]
    assert all(alive(process.pid) for process in spared)


def test_waiting_ends_with_the_condition_the_processes_or_the_time(sleepers: Sleepers) -> None:
    assert wait_until(lambda: True, sleepers, 0)
    with pytest.raises(TimeoutError, match="the run made no progress for 0 s"):
        wait_until(lambda: False, sleepers, 0.01)
    assert wait_for_end(sleepers, 0) < 10, "they were killed"
    assert not sleepers.running()
    assert not wait_until(lambda: False, sleepers, 60)


def test_only_a_kill_takes_away_the_chance_to_save() -> None:
    graceful = {fault.name for fault in FAULTS if fault.graceful}
    assert graceful == {
        "stop signal to one rank",
        "stop signal to all ranks",
        "stop signal during an evaluation",
        "SIGHUP to everything, as a terminal that closes",
        "SIGHUP to torchrun",
        "SIGTERM to torchrun",
        "SIGKILL of torchrun",
    }
    assert len({fault.name for fault in FAULTS}) == len(FAULTS), "names are folders"


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    """A run that logged 8 steps, evaluated at 4 and saved at 3 and 6; its last row is half written."""
    run = RunDir(tmp_path / "run")
    for step in (3, 6):
        folder = run.checkpoints / f"step_{step:08d}"
        folder.mkdir(parents=True)
        (folder / "state.safetensors").write_bytes(bytes(100))
        (folder / "manifest.json").write_text(json.dumps({"digest": f"of {step}"}))
    rows = [{"step": step, "split": "train", "loss": 1 / step} for step in range(1, 9)]
    rows.insert(4, {"step": 4, "split": "val", "loss": 0.5})
    run.metrics.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 9, "spl')
    return Traces(run)


def test_what_a_run_folder_shows(traces: Traces) -> None:
    assert (traces.reached(), traces.saved(), traces.digest(), traces.status()) == (8, [3, 6], "of 6", "none")
    assert traces.rows()[3:5] == [(4, "train", 0.25), (4, "val", 0.5)]
    assert traces.evaluating(every=4), "8 is due, and there is no row of it"
    assert not traces.evaluating(every=3)
    traces.run.metrics.write_text(json.dumps({"step": 8, "split": "val", "loss": 0.5}) + "\n")
    assert not traces.evaluating(every=4), "it is over"
    number = traces.number()
    other = traces.run.metrics.with_name("other")
    other.touch()
    os.replace(other, traces.run.metrics)
    assert traces.number() != number, "another file has its name"


def test_an_empty_run_folder_shows_nothing(tmp_path: Path) -> None:
    traces = Traces(RunDir(tmp_path))
    assert (traces.rows(), traces.reached(), traces.saved(), traces.number()) == ([], 0, [], None)
    assert (traces.digest(), traces.status(), traces.in_flight()) == ("none", "none", False)


STOP, KILL = Fault("a", "all", signal.SIGTERM), Fault("b", "all", signal.SIGKILL)
DAMAGE = Fault("c", "all", signal.SIGKILL, damage=True)


@pytest.mark.parametrize(("fault", "expected"), [(STOP, (2, 0)), (KILL, (2, 3)), (DAMAGE, (5, 6))])
def test_steps_that_a_fault_may_cost(traces: Traces, fault: Fault, expected: tuple[int, int]) -> None:
    assert traces.loss(fault, save_every=3) == expected
    (traces.run.checkpoints / ".step_00000009.tmp").mkdir()
    lost, allowed = expected
    assert traces.loss(fault, save_every=3) == (lost, allowed + 3 * (not fault.graceful)), "one was in flight"


def test_what_an_earlier_start_left_is_not_in_flight(traces: Traces) -> None:
    (traces.run.checkpoints / ".step_00000009.tmp").mkdir()
    stale = traces.flights()
    assert traces.in_flight()
    assert not traces.in_flight(stale)
    (traces.run.checkpoints / ".step_00000012.tmp").mkdir()
    assert traces.in_flight(stale)


@pytest.mark.parametrize(("cut", "size"), [(True, 49), (False, 100)])
def test_damage_spoils_the_newest_only(traces: Traces, cut: bool, size: int) -> None:
    traces.damage(0.5, cut)
    old, new = ((traces.run.checkpoints / name / "state.safetensors").read_bytes() for name in traces._names())
    assert old == bytes(100)
    assert len(new) == size
    assert sum(new) == (0 if cut else 1)
