"""Measure how long a resume takes at step 1,000,000 and at step 10: equally long, because the position is computed.

    python -m benchmarks.resume_time --json benchmarks/results/resume_time.json

Two figures for each: the time of a small run from ``main`` to the end of one step (model, checkpoint, first batch); and the
time until the first sample of a stream over ImageNet's 1,281,167 images, which is that of one permutation.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from dist_train.config import parse_config
from dist_train.config.planning import make_plan
from dist_train.data.sampler import StreamSampler, epoch_order
from dist_train.training.attempt import main as train
from tests.support.images import make_image_folder
from tests.support.runs import changed, folder, move_checkpoint

POSITIONS = (10, 10**6)
IMAGENET = 1_281_167


def config(root: Path) -> dict[str, Any]:
    return {
        "run": {"name": "resume", "output_dir": str(root / "runs")},
        "model": {"name": "test_vit", "pretrained": False},
        "data": {"root": str(make_image_folder(root / "images")), "image_size": 32, "workers": 0, "max_val_images": 5},
        "optim": {"lr": 0.01},
        "schedule": {"name": "constant"},
        "train": {"epochs": 10**6, "global_batch": 12},
        "log": {"tensorboard": False, "wandb": {"mode": "disabled"}},
    }


def first_step(tree: dict[str, Any], step: int) -> float:
    """Return the seconds of a start that resumes at ``step`` and does one step."""
    move_checkpoint(folder(tree), step)
    began = time.perf_counter()
    assert train(parse_config(changed(tree, train__max_steps=step + 1))) == 0
    return time.perf_counter() - began


def first_sample(tree: dict[str, Any], step: int) -> float:
    """Return the seconds until the first sample of a new stream."""
    cfg = parse_config(changed(tree, train__global_batch=256))
    plan = make_plan(cfg, IMAGENET, 1)
    epoch_order.cache_clear()
    began = time.perf_counter()
    next(iter(StreamSampler(range(IMAGENET), plan, 0, 0, step)))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps: dict[int, list[float]] = {position: [] for position in POSITIONS}
    samples: dict[int, list[float]] = {position: [] for position in POSITIONS}
    with tempfile.TemporaryDirectory() as root:
        tree = config(Path(root))
        assert train(parse_config(changed(tree, train__max_steps=5))) == 0
        for _ in range(7):
            for position in POSITIONS:
                steps[position].append(first_step(tree, position))
                samples[position].append(first_sample(tree, position))
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"{os.cpu_count()} shared CPU cores, {platform.system()}",
        "resume_and_one_step_s": {str(step): round(statistics.median(values), 4) for step, values in steps.items()},
        "first_sample_of_imagenet_s": {
            str(step): round(statistics.median(values), 4) for step, values in samples.items()
        },
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
