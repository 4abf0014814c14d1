"""`predict` compared with timm's inference script: photographs of 500 x 375 to a CSV file, in processes of their own.

    python -m benchmarks.predict [--images 10000] [--rounds 3] [--model mobilenetv3_small_050] [--workers 2] [--json FILE]

Both sides have the same weights, batches of 64, the same number of loader processes, and start from nothing: imports and start count.
The CPU time of all processes of a side is given too: it is comparable on a machine that other programs use.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dist_train
from benchmarks.measure import circumstances, interleaved, markdown, medians, ratio_of
from benchmarks.pipeline import write_photographs
from dist_train.config import parse_config

BATCH = 64
DIFFERENT = 256
"""Photographs that differ; the others are links to them."""

OURS, PEER = "dist_train predict", "timm's parts"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="mobilenetv3_small_050")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder), args)
        facts: dict[str, list[dict[str, float]]] = {name: [] for name in commands}

        def side(name: str) -> Callable[[], float]:
            def measured() -> float:
                facts[name].append(_measured(commands[name]))
                print(name, facts[name][-1], file=sys.stderr, flush=True)
                return facts[name][-1]["seconds"]

            return measured

        interleaved({name: side(name) for name in commands}, args.rounds)
    figures = _figures(facts, args.images)
    print(_table(figures))
    if args.json:
        args.json.write_text(json.dumps(circumstances() | {"figures": figures, "rounds": facts}, indent=1) + "\n")


def _commands(folder: Path, args: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command of each side, after making photographs and a run with weights."""
    write_photographs(folder / "few", DIFFERENT, 375, 500, quality=95)
    many = folder / "many"
    files = sorted((folder / "few").rglob("*.jpg"))
    for number in range(args.images):
        link = many / f"{number % 10}" / f"{number:06d}.jpg"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], link)
    data = {"root": str(folder / "few"), "workers": 2, "train_fraction": 0.05}
    cfg = parse_config(
        {
            "run": {"name": "weights", "output_dir": str(folder / "runs")},
            "model": {"name": args.model, "pretrained": False},
            "data": data,
            "augment": {"crop": "random_resized"},
            "optim": {"lr": 0.01},
            "train": {"epochs": 1, "global_batch": 8},
        }
    )
    run = dist_train.train(cfg).folder
    python, out = sys.executable, str(folder / "out.csv")
    ours = ["-m", "dist_train", "predict", str(run), str(many), "--out", out, "--batch-size", str(BATCH)]
    peer = [str(Path(__file__).with_name("predict_peer.py")), "--root", str(many), "--model", args.model, "--out", out]
    peer += ["--checkpoint", str(run / "best.safetensors"), "--batch", str(BATCH), "--workers", str(args.workers)]
    return {OURS: [python, *ours, "--set", f"data.workers={args.workers}"], PEER: [python, *peer]}


def _measured(command: list[str]) -> dict[str, float]:
    """Run a command. Return wall and CPU seconds of all its processes, and the largest memory of its first one."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    seconds = time.perf_counter() - before
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1000}


def _figures(facts: dict[str, list[dict[str, float]]], images: int) -> dict[str, Any]:
    columns = {key: {name: [each[key] for each in rounds] for name, rounds in facts.items()} for key in facts[OURS][0]}
    return {
        "images": images,
        **{key: medians(values) for key, values in columns.items()},
        "ratio": {key: ratio_of(values, PEER, OURS) for key, values in columns.items()},
    }


def _table(figures: dict[str, Any]) -> str:
    images, ratio = figures["images"], figures["ratio"]
    rows = [
        [
            name,
            f"{images / figures['seconds'][name]:.1f}",
            f"{1000 * figures['cpu'][name] / images:.2f} ms",
            f"{figures['mb'][name]:.0f} MB",
        ]
        for name in (OURS, PEER)
    ]
    rows.append(["ours is better by", f"{ratio['seconds']:.2f}x", f"{ratio['cpu']:.2f}x", f"{ratio['mb']:.2f}x"])
    return markdown([f"{images:,} photographs", "images/s", "CPU time per image", "memory of the first process"], rows)


if __name__ == "__main__":
    main()
