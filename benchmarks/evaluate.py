"""Measure `evaluate` beside timm's validation: photographs of 500 x 375, one and two ranks, in processes of their own.

    python -m benchmarks.evaluate

Both sides have the same weights, batches of 64, one loader process for each rank, and start from nothing: imports and start
count. timm's validation script knows one process; its functions run under torchrun too, as in timm's training script.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.commands import cost_of, linked, trained
from benchmarks.measure import Row, interleaved, medians, ratio_of, run_part
from benchmarks.startup import torchrun

MODEL, BATCH = "mobilenetv3_small_050", 64
TARGET = 1.1


def measure(quick: bool) -> list[Row]:
    images, rounds = (64, 1) if quick else (4000, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = trained(folder, MODEL)
        linked(folder / "few", folder / "many" / "val", images, ("a", "b"))
        linked(folder / "few", folder / "many" / "train", 2, ("a", "b"))
        return [_row(run, folder / "many", images, rounds, world) for world in (1, 2)]


def _row(run: Path, root: Path, images: int, rounds: int, world: int) -> Row:
    start = torchrun(world) if world > 1 else [sys.executable]
    options = ["--set", f"data.root={root}", "--set", "data.workers=1", "--set", f"eval.batch_size={BATCH}"]
    ours = [*start, "-m", "dist_train", "evaluate", str(run), *options]
    peer = [*start, str(Path(__file__).with_name("evaluate_peer.py")), "--root", str(root / "val"), "--model", MODEL]
    peer += ["--checkpoint", str(run / "best.safetensors"), "--batch", str(BATCH)]
    cpu: dict[str, list[float]] = {"ours": [], "timm": []}

    def side(name: str, command: list[str]) -> Callable[[], float]:
        def seconds() -> float:
            cost = cost_of(command)
            cpu[name].append(cost["cpu"])
            print(f"{world} rank(s), {name}: {cost}", file=sys.stderr, flush=True)
            return cost["seconds"]

        return seconds

    found = interleaved({"ours": side("ours", ours), "timm": side("timm", peer)}, rounds)
    ratio, middle = ratio_of(found, "timm", "ours"), medians(found)
    of_cpu = ratio_of(cpu, "timm", "ours")
    what = f"evaluate {images:,} photographs, {world} rank(s) (CPU time: {of_cpu:.2f}x)"
    speed, peers = images / middle["ours"], images / middle["timm"]
    return Row(what, "img/s", speed, peers, "timm's validation", ratio, f">= {TARGET}x", ratio >= TARGET)


if __name__ == "__main__":
    run_part(__doc__, measure)
