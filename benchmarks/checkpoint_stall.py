"""How long a checkpoint pauses the training loop: ours, ``torch.save``, and torch's asynchronous save.

    python -m benchmarks.checkpoint_stall --json benchmarks/results/checkpoint_stall.json

1 GB of state (``--quick``: 0.1 GB), all three in turn in one process with one thread. Measures the pause of the loop in
seconds, how much longer steps of about 8 and 100 ms take while the file is written, and the seconds until the checkpoint is
durable. Each way ends with an fsync. The first save of each way is reported separately: it allocates memory.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from benchmarks.measure import Row, print_table, write_json
from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints
from dist_train.system.files import fsync_dir

STEPS_MS = (8, 100)

Save = Callable[[int], Callable[[], bool]]
"""Start save number i. Return a function that says, without waiting, whether the checkpoint is durable."""


def make_state(size: int) -> dict[str, torch.Tensor]:
    """Return about ``size`` bytes in tensors of 10 MB and a few hundred small ones, like a model and its optimizer."""
    large = {f"large.{n}": torch.randn(2_500_000) for n in range(size // 10_000_000)}
    return large | {f"small.{n}": torch.randn(768) for n in range(300)}


def ours(folder: Path, state: dict[str, torch.Tensor]) -> tuple[Save, Callable[[], None]]:
    checkpoints = Checkpoints(folder / "ours", keep=2)

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


WAYS = {"ours": ours, "torch.save + fsync": torch_save, "dcp.async_save": async_save}


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


def run(size: int, rounds: int) -> dict[str, Any]:
    """Measure all ways in turn. Return the medians of ``rounds``, without the first one."""
    torch.set_num_threads(1)
    state = make_state(size)
    steps = {ms: calibrate(ms) for ms in STEPS_MS}
    found: dict[str, dict[int, list[dict[str, float]]]] = {way: {ms: [] for ms in STEPS_MS} for way in WAYS}
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=".") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about a save without ranks
        ways = {way: make(Path(folder), state) for way, make in WAYS.items()}
        number = 0
        for turn in range(rounds + 1):
            for way, (save, _) in ways.items():
                for ms, step in steps.items():
                    number += 1
                    figures = measure(save, number, step)
                    first.setdefault(way, figures["blocked_s"])
                    if turn:
                        found[way][ms].append(figures)
        for _, close in ways.values():
            close()
    return {way: {"first_blocked_s": first[way]} | _medians(by_step) for way, by_step in found.items()}


def _medians(by_step: dict[int, list[dict[str, float]]]) -> dict[str, float]:
    every = [figures for values in by_step.values() for figures in values]
    medians = {key: statistics.median(figures[key] for figures in every) for key in ("blocked_s", "durable_s")}
    factors = {f"step_factor_{ms}ms": statistics.median(f["step_factor"] for f in by_step[ms]) for ms in by_step}
    return medians | factors


def rows_of(results: dict[str, dict[str, float]]) -> list[Row]:
    """Return the rows: the pause of the loop, the slowdown of steps during a save, the time until it is durable."""
    ours, rows = results["ours"], []
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
        for what, unit, key in (
            ("time until the checkpoint is durable", "s", "durable_s"),
            *((f"steps of {ms} ms while it is written", "x as long", f"step_factor_{ms}ms") for ms in STEPS_MS),
        ):
            rows.append(Row(what, unit, ours[key], figures[key], peer, ours[key] / figures[key]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--quick", action="store_true", help="0.1 GB, one round")
    args = parser.parse_args()
    size, rounds = (10**8, 1) if args.quick else (10**9, 5)
    results = run(size, rounds)
    rows = rows_of(results)
    print_table(rows)
    if args.json:
        write_json(args.json, rows, state_bytes=size, rounds=rounds, results=results)


if __name__ == "__main__":
    main()
