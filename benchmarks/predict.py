"""`predict` compared with timm's inference script: photographs of 500 x 375 to a CSV file, in processes of their own.

    python -m benchmarks.predict [--images 10000] [--rounds 3] [--model mobilenetv3_small_050] [--workers 2] [--json FILE]

Both sides have the same weights, batches of 64, the same number of loader processes, and start from nothing: imports and start count.
The CPU time of all processes of a side is given too: it is comparable on a machine that other programs use.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.commands import cost_of, linked, trained
from benchmarks.measure import circumstances, interleaved, markdown, medians, ratio_of

BATCH = 64
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
                facts[name].append(cost_of(commands[name]))
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
    run = trained(folder, args.model)
    many = linked(folder / "few", folder / "many", args.images, tuple("0123456789"))
    python, out = sys.executable, str(folder / "out.csv")
    ours = ["-m", "dist_train", "predict", str(run), str(many), "--out", out, "--batch-size", str(BATCH)]
    peer = [str(Path(__file__).with_name("predict_peer.py")), "--root", str(many), "--model", args.model, "--out", out]
    peer += ["--checkpoint", str(run / "best.safetensors"), "--batch", str(BATCH), "--workers", str(args.workers)]
    # timm's inference script gives a model the images of its training; ours those of its published test, which may be larger.
    same = ["--set", f"data.workers={args.workers}", "--set", "eval.size=train"]
    return {OURS: [python, *ours, *same], PEER: [python, *peer]}


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
