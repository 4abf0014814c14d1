"""Measure the time of each part and each operator of a realistic training step.

    python -m benchmarks.profile_step [--device cuda] [--json FILE]

The real ``fit`` trains a small ViT on JPEG files with RandAugment, erasing, Mixup, clipping, EMA and AdamW, in torch's
profiler.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.gpu_sides import RECIPE, FirstSteps, Job, our_tree
from benchmarks.images import small_folder
from benchmarks.loop import Enough, Ours
from benchmarks.measure import Row, circumstances, write_json
from dist_train.training.loop import fit

PARTS = ("wait for data", "augment on the device", "forward", "loss", "backward", "gradient norm and clipping", "optimizer", "EMA")  # fmt: skip


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return function(*args, **kwargs)

    return call


class Named:
    """Batches; the profile shows the time spent waiting for them."""

    def __init__(self, batches: Any) -> None:
        self._next = named("wait for data", batches.__next__)

    def __next__(self) -> Any:
        return self._next()


def measure(job: Job, precision: str) -> tuple[list[Row], list[tuple[str, float]]]:
    """Return the milliseconds per step of each part, and the operators with the largest self time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_folder(folder / "images", images=4 * job.batch, classes=job.classes)
        side = Ours(our_tree(job, folder, precision, False, **RECIPE), job.group, job.clock)
        stepper, state = side.setup.stepper, side.setup.state
        warm = FirstSteps(stepper.batches, job, 2, stepper)
        stepper.batches = warm  # type: ignore[assignment]
        attach(stepper, state)
        with contextlib.suppress(Enough):
            fit(side.setup, side.recorder, side.stop)
        stepper.batches = Named(FirstSteps(warm._batches, job, 0, stepper))  # type: ignore[assignment]
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if job.device.type == "cuda" else [])]
        began = job.clock()
        with profile(activities=kinds) as found:
            try:
                fit(side.setup, side.recorder, side.stop)
            except Enough:
                seconds = job.clock() - began
    return summary(found, job, seconds)


def attach(stepper: Any, state: Any) -> None:
    """Name the parts of a step for the profiler."""
    stepper.augment = named("augment on the device", stepper.augment)
    state.model.forward = named("forward", state.model.forward)
    state.objective.loss.forward = named("loss", state.objective.loss.forward)
    state.precision.backward = named("backward", state.precision.backward)
    stepper.strategy.clip = named("gradient norm and clipping", stepper.strategy.clip)
    state.optimizer.step = named("optimizer", state.optimizer.step)
    state.ema.update = named("EMA", state.ema.update)


def summary(found: Any, job: Job, seconds: float) -> tuple[list[Row], list[tuple[str, float]]]:
    steps = job.steps * job.rounds
    on_gpu = job.device.type == "cuda"
    events = found.key_averages()
    total = seconds / steps * 1e3
    rows = []
    for part in PARTS:
        event = next((event for event in events if event.key == part), None)
        spent = 0.0 if event is None else (event.device_time_total if on_gpu else event.cpu_time_total) / steps / 1e3
        rows.append(Row(part, "ms per step", spent, total, "whole step", spent / total))
    rest = total - sum(row.ours for row in rows)
    rows.append(Row("the rest: the loop, the profiler", "ms per step", rest, total, "whole step", rest / total))
    own = [(e.key, (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / steps / 1e3) for e in events if e.key not in PARTS]  # fmt: skip
    return rows, sorted(own, key=lambda item: -item[1])[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="a few steps of a tiny model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    if args.device == "cuda":
        job = Job(torch.device("cuda", 0))
    else:
        torch.set_num_threads(1)
        job = Job(torch.device("cpu"), "vit_tiny_patch16_224", 96, 16, 4, steps=10, rounds=2, workers=1)
    if args.quick:
        job = Job(job.device, "test_vit", 32, 8, 4, steps=2, rounds=1, workers=1)
    rows, own = measure(job, "amp_bf16" if args.device == "cuda" else "fp32")
    print(f"{job.model}, {job.size} px, batch {job.batch}, {circumstances()['hardware']}\n")
    print("| part | ms per step | share |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.ours:.2f} | {row.ratio or 0:.1%} |")
    print("\nOperators with the largest self time, ms per step:\n")
    for name, spent in own:
        print(f"- `{name}` {spent:.2f}")
    if args.json:
        write_json(args.json, rows, operators=dict(own))


if __name__ == "__main__":
    main()
