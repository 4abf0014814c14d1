"""Measure what ``train.nonfinite: skip`` adds to a step of about 5 ms.

    python -m benchmarks.skip_cost [--rounds 400] [--json FILE]

The trainer's own steps of a small CNN with BatchNorm, on one core, on one batch that stays the same: with ``error`` and with
``skip``, each with and without EMA. Blocks of five steps follow in turn. CPU time, so that other programs count less.

And what an optimizer that cannot skip by itself (RMSprop) would cost, if each step kept a copy of weights and moments and chose
afterwards, so that the host need not know whether the step is skipped: the update of ViT-S's weights alone.
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch

from benchmarks import measure
from dist_train.config import parse_config
from dist_train.distributed.group import Dist
from dist_train.training.setup import Setup, build_setup
from dist_train.training.step import train_step
from tests.support.images import make_image_folder

MODEL, IMAGES = "test_efficientnet", 3
"""A model of timm with BatchNorm, and the number of images of 32 px with which a step takes about 5 ms."""

BLOCK = 5
SIDES = {
    f"{policy}{' and EMA' if ema else ''}": {"nonfinite": policy, "ema": ema}
    for ema in (None, 0.999)
    for policy in ("error", "skip")
}
TARGET = 1.01


def setup_of(folder: Path, train: dict[str, Any]) -> Setup:
    """Build a run whose batches are all the same."""
    tree = {
        "run": {"name": "skip", "output_dir": str(folder / "runs")},
        "model": {"name": MODEL, "pretrained": False},
        "data": {"root": str(folder / "images"), "image_size": 32, "workers": 0},
        "optim": {"lr": 1e-4},
        "train": {"epochs": 10**4, "global_batch": IMAGES, "clip_grad": 1.0, **train},
    }
    made = build_setup(parse_config(tree), Dist.alone())
    made.stepper.batches = itertools.repeat(next(made.stepper.batches))
    return made


def block_of(made: Setup) -> Callable[[], float]:
    """Return a function that returns the CPU seconds of a step: the median of a block, without its first step."""

    def one() -> float:
        began = time.process_time()
        train_step(made.stepper, made.state)
        return time.process_time() - began

    return lambda: statistics.median([one() for _ in range(BLOCK + 1)][1:])  # the first one fills the caches


def rows_of(rounds: int) -> list[measure.Row]:
    with tempfile.TemporaryDirectory() as place:
        make_image_folder(Path(place) / "images")
        sides = {name: block_of(setup_of(Path(place), train)) for name, train in SIDES.items()}
        measure.interleaved(sides, 10)
        figures = measure.interleaved(sides, rounds)
    medians = measure.medians(figures)
    found = []
    for name, plain in (("skip", "error"), ("skip and EMA", "error and EMA")):
        ratios = sorted(a / b for a, b in zip(figures[name], figures[plain], strict=True))
        low, high = (ratios[round((len(ratios) - 1) / 2 + sign * 0.98 * math.sqrt(len(ratios)))] for sign in (-1, 1))
        ratio = statistics.median(ratios)
        what = f"a step with {name}: the ratio is {ratio:.4f} (95 %: {low:.4f} to {high:.4f})"
        times = 1e3 * medians[name], 1e3 * medians[plain]
        found.append(measure.Row(what, "ms", *times, plain, ratio, f"<= {TARGET}x", ratio <= TARGET))
    return found


def chosen_rows(rounds: int) -> list[measure.Row]:
    """Return the time of an update by RMSprop that decides afterwards, against one that decides before."""
    model = timm.create_model("vit_small_patch16_224")
    optimizer, finite = torch.optim.RMSprop(model.parameters(), lr=1e-6, momentum=0.9), torch.tensor(True)
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    moments = [value for kept in optimizer.state.values() for value in kept.values() if value.ndim]
    tensors = [*model.parameters(), *moments]
    copies = [torch.empty_like(tensor) for tensor in tensors]

    def before() -> float:
        began = time.process_time()
        if finite:
            optimizer.step()
        return time.process_time() - began

    @torch.no_grad()
    def afterwards() -> float:
        began = time.process_time()
        torch._foreach_copy_(copies, tensors)
        optimizer.step()
        for tensor, copy in zip(tensors, copies, strict=True):
            torch.where(finite, tensor, copy, out=tensor)
        return time.process_time() - began

    figures = measure.interleaved({"before": before, "afterwards": afterwards}, rounds)
    medians = measure.medians(figures)
    extra, held = (sum(tensor.nbytes for tensor in part) / 1e6 for part in (copies, [*tensors, *model.parameters()]))
    what = f"an update by RMSprop, chosen afterwards: {extra:.0f} MB more than {held:.0f} MB"
    times = 1e3 * medians["afterwards"], 1e3 * medians["before"]
    return [measure.Row(what, "ms", *times, "decided before", times[0] / times[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    measure.pinned(1)
    torch.set_num_threads(1)
    rows = [*chosen_rows(max(10, args.rounds // 10)), *rows_of(args.rounds)]
    measure.print_table(rows)
    if args.json:
        measure.write_json(args.json, rows)


if __name__ == "__main__":
    main()
