"""The faults of the fuzz: each starts a run, disturbs it, and leaves it when all processes have ended.

Signals are those of the fire drill (``dist_train.drill.faults``). The others are about the machine: a full disk, too little
memory, another user, a clock that jumps, code that is edited; and signals in the first seconds of a start.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dist_train
from dist_train.drill.faults import FAULTS, CommandStart, Fault, Started, Traces, strike
from dist_train.system.files import read_json
from dist_train.system.processes import send
from tests.support.fuzz_starts import Starts
from tests.support.jumping_clock import COMPILER, Clock
from tests.support.shm import CAN_MOUNT
from tests.support.surroundings import NOBODY, Surroundings, full

SAVE_EVERY, EVALUATE_EVERY = 3, 5
MIB = 1 << 20

IN_A_SAVE = Fault("stop signal during a save", "one rank", signal.SIGTERM, "save")
SIGNALS = (*FAULTS, IN_A_SAVE)
UNGRACEFUL = {"SIGKILL of everything", "SIGKILL during a save", "SIGKILL during an evaluation"}
"""The faults that leave no process which could say why the run ended; and damage after them."""


@dataclass
class Start:
    """One disturbed start of a run.

    Attributes:
        tree: the config of the run.
        disk: the kind of the file system of the run folder, a key of ``places``.
        stale, before: unfinished checkpoints and the number of ``metrics.jsonl`` before the start.
    """

    rng: random.Random
    starts: Starts
    tree: dict[str, Any]
    world_size: int
    traces: Traces
    disk: str
    stale: frozenset[int]
    before: int | None

    def going(self) -> bool:
        """Return whether this start has begun to train."""
        return self.traces.number() != self.before

    def until(self, moment: Callable[[], bool], started: Started) -> bool:
        """Wait for a moment. Return whether the processes are still running."""
        self.starts.wait_until(moment, started)
        return started.running()

    def until_step(self, started: Started, moment: str = "step", most: int = 2 * SAVE_EVERY + 1) -> bool:
        """Wait for a random step, and then for a moment of ``Fault``. Return whether the processes are still running."""
        target = max([0, *self.traces.saved()]) + self.rng.randint(1, most)
        moments = {
            "step": lambda: True,
            "save": lambda: self.traces.in_flight(self.stale),
            "evaluation": lambda: self.traces.evaluating(EVALUATE_EVERY),
        }
        found = moments[moment]
        return self.until(lambda: self.going() and self.traces.reached() >= target and found(), started)

    def forked(self, **limits: Any) -> Started:
        return self.starts.forked(self.tree, self.world_size, Surroundings(**limits))

    def command(self, variables: dict[str, str] | None = None, folder: Path | None = None) -> CommandStart:
        return self.starts.command(self.tree, self.world_size, variables or {}, folder)

    def strike(self, fault: Fault, started: Started) -> None:
        """Send the signal once or twice. A fault of one rank hits the same one, so that another is left to say why."""
        rank = self.rng.randrange(self.world_size)
        for _ in range(self.rng.choice((1, 1, 2))):
            strike(fault, started, rank)
            time.sleep(0.01)

    def stop_signal(self) -> Fault:
        return self.rng.choice([fault for fault in FAULTS if fault.target != "agent" and fault.graceful])


def by_signal(fault: Fault) -> Callable[[Start], bool]:
    """Return the function of a fault of the drill. Agents are hit where there is one, else most ranks are forked."""

    def hit(start: Start) -> bool:
        real = fault.target == "agent" or start.rng.random() < start.starts.torchrun
        shm = {"shm": "64m"} if CAN_MOUNT and start.rng.random() < 0.5 else {}
        started = start.command() if real else start.forked(**shm)
        if fault.moment == "step" and start.rng.random() < 0.15:
            time.sleep(start.rng.uniform(0.0, 4.0))  # hits the start
            found = started.running()
        else:
            found = start.until_step(started, fault.moment)
        if found:
            start.strike(fault, started)
        start.starts.wait_for_end(started)
        return found

    return hit


def full_shm(start: Start) -> bool:
    """Loader processes without room: the start must end by itself before the first step."""
    start.tree["data"]["workers"] = 1
    start.starts.wait_for_end(start.forked(shm="8k"))
    assert not start.going(), "a start with a full /dev/shm began to train"
    return True


def full_disk(start: Start) -> bool:
    """From a random moment on, there is no room; later there is."""
    started = start.forked()
    early = start.rng.random() < 0.2
    if not early and not start.until_step(started):
        return False
    with full(start.starts.places[start.disk]):
        start.starts.wait_for_end(started)
    return True


def file_limit(start: Start) -> bool:
    """`ulimit -f`: files up to a size that may be less than a checkpoint."""
    start.starts.wait_for_end(start.forked(file_bytes=start.rng.choice((MIB // 16, MIB, 2 * MIB, 8 * MIB))))
    return True


def memory_limit(start: Start) -> bool:
    """`ulimit -v`. With a few MB C++ libraries abort the process, which leaves no word in any program."""
    start.starts.wait_for_end(start.forked(more_memory=start.rng.choice((64, 128, 256, 512)) * MIB))
    return True


def process_limit(start: Start) -> bool:
    """`ulimit -u`, for another user, whom it counts for."""
    start.starts.allow_all(start.traces.run.path)
    start.tree["data"]["workers"] = 1
    start.starts.wait_for_end(start.forked(user=NOBODY, more_processes=start.rng.choice((0, 2, 6, 12, 20))))
    return True


def another_user(start: Start) -> bool:
    """A colleague goes on with the run, in a folder that both may write."""
    start.starts.allow_all(start.traces.run.path)
    started = start.forked(user=NOBODY)
    found = start.until_step(started)
    if found:
        start.strike(start.stop_signal(), started)
    start.starts.wait_for_end(started)
    return found


def clock_jumps(start: Start) -> bool:
    """The wall clock jumps by hours, back and forth, until a signal comes."""
    clock = Clock(start.starts.output / "clock")
    started = start.command(clock.variables())
    for _ in range(start.rng.randint(2, 5)):
        if not start.until_step(started, most=SAVE_EVERY):
            break
        clock.jump(start.rng.choice((0, -9, -2, -0.01, 0.01, 3, 14)))
        time.sleep(start.rng.uniform(0.1, 1.0))
    found = started.running()
    if found:
        start.strike(start.stop_signal(), started)
    start.starts.wait_for_end(started)
    return found


def code_edits(start: Start) -> bool:
    """All code is overwritten or removed after the first step, until a stop signal comes; the next start has it again."""
    copy = start.starts.output / "code"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(Path(dist_train.__file__).parent, copy / "dist_train")
    started = start.command(folder=copy)
    found = start.until_step(started, most=1)
    if found and start.rng.random() < 0.5:
        for path in (copy / "dist_train").rglob("*.py"):
            path.write_text("this is no Python\n")
    elif found:
        os.rename(copy / "dist_train", copy / "gone")
    found = found and start.until_step(started)
    if found:
        start.strike(start.rng.choice([fault for fault in FAULTS if fault.number != signal.SIGKILL]), started)
    start.starts.wait_for_end(started)
    return found


def in_the_imports(start: Start) -> bool:
    """SIGTERM while the ranks import torch."""
    started = start.command()
    mapped = start.until(lambda: any("libtorch" in _maps(pid) for pid in started.ranks()), started)
    time.sleep(start.rng.uniform(0.0, 0.5))
    send(started.ranks(), signal.SIGTERM)
    start.starts.wait_for_end(started)
    return mapped


def in_the_rendezvous(start: Start) -> bool:
    """SIGTERM while all wait for a rank that does not come."""
    started = start.forked()
    *_, late = started.ranks()
    send([late], signal.SIGSTOP)
    start.until(lambda: _hears(started.ranks()[0], signal.SIGTERM), started)
    time.sleep(start.rng.uniform(0.2, 1.5))
    return _stop_all_but(late, start, started)


def in_the_first_collective(start: Start) -> bool:
    """SIGTERM while rank 0 has the lock and waits for another rank."""
    started = start.forked()
    first, *_, late = started.ranks()
    lock = start.traces.run.lock
    start.until(lambda: read_json(lock, default={}).get("pid") == first, started)
    send([late], signal.SIGSTOP)
    time.sleep(start.rng.uniform(0.2, 1.5))
    return _stop_all_but(late, start, started)


def _stop_all_but(late: int, start: Start, started: Started) -> bool:
    found = started.running()
    send(started.ranks(), signal.SIGTERM)
    time.sleep(0.3)
    send([late], signal.SIGCONT)
    start.starts.wait_for_end(started)
    return found


def in_the_first_save(start: Start) -> bool:
    """SIGTERM while the first checkpoint of this start is written."""
    started = start.forked()
    found = start.until(lambda: start.going() and start.traces.in_flight(start.stale), started)
    if found:
        send(started.ranks(), signal.SIGTERM)
    start.starts.wait_for_end(started)
    return found


def store_fails(start: Start) -> bool:
    """The store of the data fails for some seconds, from a random moment on; a run that goes on gets a stop signal later."""
    proxy = start.starts.proxy
    assert proxy is not None
    proxy.failed.clear()
    started = start.forked()
    if start.rng.random() < 0.7 and not start.until_step(started):
        return False
    proxy.fail_all(start.rng.choice((503, 429, 403, "cut", "silent")))
    time.sleep(start.rng.uniform(0.5, 8.0))
    proxy.fail()
    if start.until_step(started):
        start.strike(start.stop_signal(), started)
    start.starts.wait_for_end(started)
    return bool(proxy.failed)


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def _hears(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def kinds(starts: Starts, every: bool) -> dict[str, Callable[[Start], bool]]:
    """Return the faults that this machine can make, by name.

    Args:
        every: also those of the machine, and those in the first seconds; else signals only.
    """
    found = {fault.name: by_signal(fault) for fault in SIGNALS if fault.target != "agent" or starts.torchrun > 0}
    if CAN_MOUNT:
        found["start with a full /dev/shm"] = full_shm
    if not every:
        return found
    found |= {
        "SIGTERM during the imports": in_the_imports,
        "SIGTERM during the rendezvous": in_the_rendezvous,
        "SIGTERM in the first collective": in_the_first_collective,
        "SIGTERM during the first save": in_the_first_save,
        "ulimit -f (files)": file_limit,
        "ulimit -v (memory)": memory_limit,
        "code edited or removed": code_edits,
    }
    if os.geteuid() == 0:
        found |= {"ulimit -u (processes), as another user": process_limit, "a start by another user": another_user}
    if COMPILER:
        found["clock that jumps by hours"] = clock_jumps
    if "small disk" in starts.places:
        found["full disk"] = full_disk
    if starts.proxy is not None:
        found["store of the data fails"] = store_fails
    return found
