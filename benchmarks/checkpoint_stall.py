"""How long a checkpoint pauses the training loop, and what it takes: ours, ``torch.save``, torch's asynchronous save.

    python -m benchmarks.checkpoint_stall --json benchmarks/results/checkpoint_stall.json

1 GB of state (``--quick``: 0.1 GB), all ways in turn in one process with one thread. Measures the pause of the loop in
seconds, how much longer steps of about 8 and 100 ms take while the file is written, the seconds until the checkpoint is
durable, and the host memory that a save adds to that of the state. Each way ends with an fsync. The first save of a run is
measured separately, with new memory and a new writer in each round: its memory is allocated ahead, beside steps.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from benchmarks.measure import Row, print_table, write_json
from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints
from dist_train.config.sections.checkpoint import Memory
from dist_train.system.files import fsync_dir

STEPS_MS = (8, 100)

Save = Callable[[int], Callable[[], bool]]
"""Start save number i. Return a function that says, without waiting, whether the checkpoint is durable."""


def make_state(size: int) -> dict[str, torch.Tensor]:
    """Return about ``size`` bytes in tensors of 10 MB and a few hundred small ones, like a model and its optimizer."""
    large = {f"large.{n}": torch.randn(2_500_000) for n in range(size // 10_000_000)}
    return large | {f"small.{n}": torch.randn(768) for n in range(300)}


def ours(folder: Path, state: dict[str, torch.Tensor], memory: Memory = "full") -> tuple[Save, Callable[[], None]]:
    checkpoints = Checkpoints(folder / f"ours-{memory}", keep=2, memory=memory)
    checkpoints.start()
    checkpoints.wait()
    checkpoints.reserve(sum(tensor.nbytes for tensor in state.values()), torch.device("cpu"))

    def save(number: int) -> Callable[[], bool]:
        manifest = Manifest(number, True, world_size=1, data_fingerprint="", config={})
        checkpoints.save(state, manifest)

        def durable() -> bool:
            checkpoints.poll()
            return not checkpoints.busy

        return durable

    return save, checkpoints.close


def torch_save(folder: Path, state: dict[str, torch.Tensor]) -> tuple[Save, Callable[[], None]]:
    def save(number: int) -> Callable[[], bool]:
        temporary, target = folder / "temporary.pt", folder / f"torch_save_{number % 2}.pt"
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        fsync_dir(folder)
        return lambda: True

    return save, lambda: None


def async_save(folder: Path, state: dict[str, torch.Tensor]) -> tuple[Save, Callable[[], None]]:
    def save(number: int) -> Callable[[], bool]:
        target = folder / f"async_{number % 2}"
        shutil.rmtree(target, ignore_errors=True)
        future: Any = dcp.async_save(state, checkpoint_id=target)
        done = future if hasattr(future, "done") else future.upload_completion
        return lambda: bool(done.done())

    return save, lambda: None


WAYS = {
    "ours": ours,
    "ours, memory: low": partial(ours, memory="low"),
    "torch.save + fsync": torch_save,
    "dcp.async_save": async_save,
}


def calibrate(step_ms: float) -> Callable[[], float]:
    """Imitate a training step of about ``step_ms`` by matrix products. Return its seconds."""
    a, b, out = torch.randn(512, 512), torch.randn(512, 512), torch.empty(512, 512)

    def products(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            torch.mm(a, b, out=out)
        return time.perf_counter() - began

    products(20)
    one = min(products(20) for _ in range(5)) / 20
    count = max(1, round(step_ms / 1000 / one))
    return lambda: products(count)


def measure(save: Save, number: int, step: Callable[[], float]) -> dict[str, float]:
    """Do steps, start a save, do steps until it is durable."""
    before = statistics.median(step() for _ in range(10))
    began = time.perf_counter()
    durable = save(number)
    blocked = time.perf_counter() - began
    beside = []
    while not durable():
        beside.append(step())
    total = time.perf_counter() - began
    return {"blocked_s": blocked, "durable_s": total, "step_factor": statistics.median(beside or [before]) / before}


def alone(save: Save, number: int) -> float:
    """Return the seconds until a checkpoint is durable if no step runs beside the write."""
    began = time.perf_counter()
    durable = save(number)
    while not durable():
        time.sleep(0.002)
    return time.perf_counter() - began


def first_and_later(state: dict[str, torch.Tensor], step: Callable[[], float]) -> tuple[float, float]:
    """Return the pause of the first save of ours, and of the second one."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        save, close = ours(Path(folder), state)
        for _ in range(50):  # a run has at least so many before its first save; memory is allocated beside them
            step()
        first, later = (measure(save, number, step)["blocked_s"] for number in (1, 2))
        close()
    return first, later


def memory_of(make: Callable[..., tuple[Save, Callable[[], None]]], state: dict[str, torch.Tensor]) -> float:
    """Return the peak of the host memory that a save takes, in bytes per byte of the state."""
    before, peak, ended = _memory(), 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, _memory())

    with tempfile.TemporaryDirectory(dir=".") as folder:
        sampler = threading.Thread(target=sample)
        sampler.start()
        save, close = make(Path(folder), state)
        for number in (1, 2):
            durable = save(number)
            while not durable():
                time.sleep(0.01)
        close()
        ended.set()
        sampler.join()
    return (peak - before) / sum(tensor.nbytes for tensor in state.values())


def _memory() -> int:
    """Return the bytes that this process and its children hold, shared pages counted once (PSS)."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    total = 0
    for pid in ["self", *children]:
        with suppress(OSError):  # it has just ended
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def run(size: int, rounds: int) -> dict[str, Any]:
    """Measure all ways in turn. Return the medians of ``rounds``; one more, before them, does not count."""
    torch.set_num_threads(1)
    state = make_state(size)
    steps = {ms: calibrate(ms) for ms in STEPS_MS}
    found: dict[str, dict[int, list[dict[str, float]]]] = {way: {ms: [] for ms in STEPS_MS} for way in WAYS}
    with tempfile.TemporaryDirectory(dir=".") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about a save without ranks
        memory = {way: memory_of(make, state) for way, make in WAYS.items()}
        firsts = [first_and_later(state, steps[STEPS_MS[-1]]) for _ in range(rounds)]
        ways = {way: make(Path(folder), state) for way, make in WAYS.items()}
        number = 0
        for turn in range(rounds + 1):
            for way, (save, _) in ways.items():
                for ms, step in steps.items():
                    number += 2
                    figures = measure(save, number - 1, step) | {"alone_s": alone(save, number)}
                    if turn:
                        found[way][ms].append(figures)
        for _, close in ways.values():
            close()
    results = {way: {"memory": memory[way]} | _medians(by_step) for way, by_step in found.items()}
    results["ours"] |= {
        "first_blocked_s": statistics.median(first for first, _ in firsts),
        "second_blocked_s": statistics.median(later for _, later in firsts),
        "first_to_second": statistics.median(first / later for first, later in firsts),
    }
    return results


def _medians(by_step: dict[int, list[dict[str, float]]]) -> dict[str, float]:
    every = [figures for values in by_step.values() for figures in values]
    medians = {
        key: statistics.median(figures[key] for figures in every) for key in ("blocked_s", "durable_s", "alone_s")
    }
    factors = {f"step_factor_{ms}ms": statistics.median(f["step_factor"] for f in by_step[ms]) for ms in by_step}
    return medians | factors


def rows_of(results: dict[str, dict[str, float]]) -> list[Row]:
    """Return the rows: the pause of the loop, the slowdown of steps during a save, the time until it is durable."""
    ours, rows = results["ours"], _rows_of_ours(results)
    for peer, figures in results.items():
        if peer == "ours":
            continue
        ratio, limit = ours["blocked_s"] / figures["blocked_s"], 0.1 if peer.startswith("torch.save") else None
        target, met = (f"<= {limit}x", ratio <= limit) if limit else ("", None)
        rows.append(
            Row(
                "training pause per checkpoint of 1 GB",
                "s",
                ours["blocked_s"],
                figures["blocked_s"],
                peer,
                ratio,
                target,
                met,
            )
        )
        ratio, limit = ours["alone_s"] / figures["alone_s"], 0.8 if peer.startswith("torch.save") else None
        target, met = (f"<= {limit}x", ratio <= limit) if limit else ("", None)
        durable = "time until the checkpoint is durable, no step beside it"
        rows.append(Row(durable, "s", ours["alone_s"], figures["alone_s"], peer, ratio, target, met))
        for what, unit, key in (
            ("time until the checkpoint is durable, steps beside it", "s", "durable_s"),
            ("host memory for a save, per byte of the state", "bytes", "memory"),
            *((f"steps of {ms} ms while it is written", "x as long", f"step_factor_{ms}ms") for ms in STEPS_MS),
        ):
            rows.append(Row(what, unit, ours[key], figures[key], peer, ours[key] / figures[key]))
    return rows


def _rows_of_ours(results: dict[str, dict[str, float]]) -> list[Row]:
    """Return the rows that compare our saves with each other."""
    ours, low = results["ours"], results["ours, memory: low"]
    first = ours["first_to_second"]
    return [
        Row(
            "pause of the first save",
            "s",
            ours["first_blocked_s"],
            ours["second_blocked_s"],
            "the second save",
            first,
            "<= 1.5x",
            first <= 1.5,
        ),
        Row(
            "memory of state and save, `memory: low`",
            "x the state",
            1 + low["memory"],
            1 + ours["memory"],
            "`memory: full`",
            (1 + low["memory"]) / (1 + ours["memory"]),
            "<= 1.25x the state",
            1 + low["memory"] <= 1.25,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--quick", action="store_true", help="0.1 GB, one round")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="rounds that count; one more comes before them"
    )
    args = parser.parse_args()
    size, rounds = (10**8, 1) if args.quick else (10**9, args.rounds)
    results = run(size, rounds)
    rows = rows_of(results)
    print_table(rows)
    if args.json:
        write_json(args.json, rows, state_bytes=size, rounds=rounds, results=results)


if __name__ == "__main__":
    main()
