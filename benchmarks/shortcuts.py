"""Measure how much time each private name of torch, and each shortcut of ours, saves over the public call.

    python -m benchmarks.shortcuts [--json FILE]

Training steps of about 5 ms run in turn on one core: some with all shortcuts, some with all public calls. The CPU time of
each part is measured inside the step. The table has the median of the differences in pairs of steps, its 95 % interval and
the quartiles. Settings of a whole process are measured in separate processes, in turn; JPEG decoding is measured in pairs
of the trainer's batches, per image.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import measure
from benchmarks.pipeline import write_photographs
from benchmarks.pipeline_peers import ours_224
from benchmarks.shortcuts_sides import MODELS, PARTS, Step, clipped_otherwise, ends_alike
from dist_train.data.decoding import jpeg
from dist_train.system.imports.fast_imports import quick_imports
from dist_train.system.machine.memory import keep_freed_memory

START = f"""import contextlib, sys, time; from {quick_imports.__module__} import quick_imports
with quick_imports() if sys.argv[1] == "shortcut" else contextlib.nullcontext(): import {ours_224.__module__}
print(time.process_time())"""
STEPS = f"""import statistics, sys; from {keep_freed_memory.__module__} import keep_freed_memory
from benchmarks.shortcuts_sides import Step
if sys.argv[1] == "shortcut": keep_freed_memory()
step = Step("NAME")
print(statistics.median([step()["whole"] for _ in range(400)][100:]))"""
PROCESSES = {"quick_imports / import, start-up": START}
PROCESSES |= {f"keep_freed_memory / malloc as it comes, {name}": STEPS.replace("NAME", name) for name in MODELS}

BLOCK = 5
"""Steps of one side before the other side follows."""

HEAD = """| what | part by the shortcut, us | by the public call | the shortcut buys (95 %) | quartiles | of the whole | same bits |
|---|---|---|---|---|---|---|"""


def row(what: str, shortcut: list[float], public: list[float], whole: float | None = None, same: str = "") -> str:
    """Return a row of the table from pairs of CPU seconds.

    Args:
        whole: the seconds of which this is a part; without it, ``public`` is the whole.
    """
    saved = sorted(1e6 * (b - a) for a, b in zip(shortcut, public, strict=True))
    middle, reach = (len(saved) - 1) / 2, 0.98 * math.sqrt(len(saved))
    low, high = saved[max(0, math.floor(middle - reach))], saved[min(len(saved) - 1, math.ceil(middle + reach))]
    first, median, third = statistics.quantiles(saved)
    mine, theirs = (1e6 * statistics.median(side) for side in (shortcut, public))
    share = median / (theirs if whole is None else 1e6 * whole)
    figures = f"{mine:.1f} | {theirs:.1f} | {median:.1f} ({low:.1f} to {high:.1f}) | {first:.1f} to {third:.1f}"
    return f"| {what} | {figures} | {share:.2%} | {same} |"


def of_steps(name: str, pairs: int = 2000) -> list[str]:
    step, all_public = Step(name), frozenset(PARTS)
    for _ in range(50):
        step(), step(all_public)
    figures: list[list[dict[str, float]]] = [[], []]
    for number in range(pairs // BLOCK):
        for side in (0, 1) if number % 2 else (1, 0):
            block = [step(all_public if side else frozenset()) for _ in range(BLOCK + 1)]
            figures[side] += block[1:]  # skip the first step: the caches still have the code of the other side
    whole = statistics.median(times["whole"] for times in figures[1])
    lines = []
    for part in (*PARTS, "whole"):
        same = "" if part == "whole" else "yes" if ends_alike(name, part) else "no"
        lines.append(row(f"{name}: {part}", *([times[part] for times in side] for side in figures), whole, same))
    return lines


def of_images(folder: Path, quality: int, pairs: int = 100) -> str:
    write_photographs(folder, 128, 375, 500, quality)
    decoders = {"part": jpeg.part_decoder, "whole": lambda: None}
    sides = {name: partial(_an_image, ours_224(folder), decoder) for name, decoder in decoders.items()}
    figures = measure.interleaved(sides, pairs)
    rates = " and ".join(f"{1 / statistics.median(figures[name]):.0f}" for name in sides)
    return row(f"JPEG of quality {quality}: its part decoded / whole, {rates} images/s", *figures.values())


def _an_image(stream: Any, decoder: Any) -> float:
    with mock.patch.object(jpeg, "part_decoder", decoder):
        began = time.process_time()
        images = next(stream)
        return (time.process_time() - began) / images


def of_processes(what: str, code: str, pairs: int = 7) -> str:
    sides = {side: partial(_printed, code, side) for side in ("shortcut", "public")}
    return row(what, *measure.interleaved(sides, pairs).values())


def _printed(code: str, side: str) -> float:
    done = subprocess.run([sys.executable, "-c", code, side], stdout=subprocess.PIPE, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here too")
    chosen = parser.parse_args()
    measure.pinned(1)
    lines = HEAD.splitlines()
    for name in MODELS:
        lines += of_steps(name)
    with tempfile.TemporaryDirectory() as folder:
        lines += [of_images(Path(folder, str(quality)), quality) for quality in (75, 95)]
    lines += [of_processes(*named) for named in PROCESSES.items()]
    lines += ["", f"Of 200 random sets of gradients, {clipped_otherwise()} are clipped to other bits."]
    print("\n".join(lines))
    if chosen.json:
        chosen.json.write_text(json.dumps(measure.circumstances() | {"table": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
