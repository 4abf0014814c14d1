"""Measure how long a resume takes at step 1,000,000 and at step 10: equally long, because the position is computed.

    python -m benchmarks.resume_time --json benchmarks/results/resume_time.json

Two figures for each: the time of a small run from ``main`` to the end of one step (model, checkpoint, first batch); and the
time until the first sample of a stream over ImageNet's 1,281,167 images, which is that of one permutation.

And the time to restore a state of ``--gb`` GB: the checkpoint is found, verified and copied into tensors that are there. Beside
it the same with the SHA-256 of version 0.1.0, and ``torch.load``, which verifies nothing. All in turn, the file in the page cache;
and once for each with a cold one.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.checkpoint_stall import make_state
from dist_train.checkpoint.digests import digest_of
from dist_train.checkpoint.manifest import Manifest
from dist_train.checkpoint.store import Checkpoints
from dist_train.checkpoint.stored import load, newest
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


def restores(size: int, rounds: int) -> dict[str, float]:
    """Return the medians in seconds of restoring a state of ``size`` bytes."""
    state = make_state(size)
    target = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        files = _saved(Path(folder), state)
        del state
        for turn in range(rounds + 1):
            for name, (file, restore) in files.items():
                for warm in (False, True):
                    if not warm:
                        _forget(file)
                    seconds = _seconds(restore, target)
                    if turn:
                        found.setdefault(name + ("" if warm else ", cold"), []).append(seconds)
    return {name: round(statistics.median(seconds), 4) for name, seconds in found.items()}


def _saved(folder: Path, state: dict[str, torch.Tensor]) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """Save a state in each way. Return its file, and what restores it."""
    for name in ("blake3", "sha256"):
        checkpoints = Checkpoints(folder / name, keep=1, memory="low")
        checkpoints.save(state, Manifest(1, True, world_size=1, data_fingerprint="", config={}))
        checkpoints.close()
    step = folder / "sha256" / "step_00000001-evaluated"
    manifest = json.loads((step / "manifest.json").read_text())
    old = {"format": 1, "sha256": digest_of(step / "state.safetensors", "sha256")}
    (step / "manifest.json").write_text(json.dumps(manifest | old))
    torch.save(state, folder / "state.pt")
    ours = {
        name: (folder / name / step.name / "state.safetensors", partial(_restored, folder / name))
        for name in ("blake3", "sha256")
    }
    return {**ours, "torch.load": (folder / "state.pt", partial(torch.load, folder / "state.pt", weights_only=True))}


def _restored(folder: Path) -> Any:
    found = newest(folder)
    assert found is not None
    return load(found[0])


def _seconds(restore: Callable[[], Any], target: dict[str, torch.Tensor]) -> float:
    began = time.perf_counter()
    for name, tensor in restore().items():
        target[name].copy_(tensor)
    return time.perf_counter() - began


def _forget(file: Path) -> None:
    """Remove a file from the page cache."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--gb", type=float, default=1.0, metavar="GB", help="size of the state to restore")
    args = parser.parse_args()
    torch.set_num_threads(1)
    restored = restores(int(args.gb * 10**9), 5)
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
        "restored_gb": args.gb,
        "restore_s": restored,
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
