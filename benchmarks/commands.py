"""Commands as sides of a benchmark: photographs, a run with weights, and what a command takes."""

import os
import subprocess
import time
from pathlib import Path

import dist_train
from benchmarks.pipeline import write_photographs
from dist_train.config import parse_config

DIFFERENT = 256
"""Photographs that differ; the others are links to them."""


def cost_of(command: list[str]) -> dict[str, float]:
    """Run a command. Return wall and CPU seconds of all its processes, and the largest memory of one of them."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    seconds = time.perf_counter() - before
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1000}


def trained(folder: Path, model: str) -> Path:
    """Make photographs of 500 x 375 in ``folder``/few, and train a model on some of them. Return the run folder."""
    write_photographs(folder / "few", DIFFERENT, 375, 500, quality=95)
    cfg = parse_config(
        {
            "run": {"name": "weights", "output_dir": str(folder / "runs")},
            "model": {"name": model, "pretrained": False},
            "data": {"root": str(folder / "few"), "workers": 2, "train_fraction": 0.05},
            "augment": {"crop": "random_resized"},
            "optim": {"lr": 0.01},
            "train": {"epochs": 1, "global_batch": 8},
        }
    )
    return Path(dist_train.train(cfg).folder)


def linked(few: Path, many: Path, images: int, classes: tuple[str, ...]) -> Path:
    """Make class folders with ``images`` links to the photographs of ``trained``. Return ``many``."""
    files = sorted(few.rglob("*.jpg"))
    for number in range(images):
        link = many / classes[number % len(classes)] / f"{number:06d}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], link)
    return many
