"""Measure what logging costs the training process: ``python -m benchmarks.logging_cost [--json FILE]``.

Times the calls in the thread of the training loop (a row into metrics.jsonl, TensorBoard, the W&B logger; start and end of
that logger), and for comparison wandb's ``run.log`` in the training process, which our logger avoids. Also measures the CPU
time of the uploader and of wandb's service. Offline, no network.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dist_train.config import parse_config
from dist_train.loggers.base import Facts
from dist_train.loggers.jsonl import JsonlLogger
from dist_train.loggers.tensorboard import TensorBoardLogger
from dist_train.loggers.wandb.logger import WandbLogger
from dist_train.run.folder import RunDir
from dist_train.run.metrics_file import Row

ROWS = 500
START_S, WATCH_S = 10, 30
ROW: Row = {
    "epoch": 0.5,
    "split": "train",
    "loss": 1.0,
    "lr": 0.1,
    "grad_norm": 2.0,
    "images_per_s": 900.0,
    "data_wait": 0.1,
}


def median_us(call: Callable[[Row], Any], rows: int = ROWS) -> tuple[float, float]:
    """Return the median and the maximum of the call's wall time in microseconds."""
    times = []
    for step in range(1, rows + 1):
        row = {"step": step} | ROW
        began = time.perf_counter()
        call(row)
        times.append((time.perf_counter() - began) * 1e6)
    return round(statistics.median(times), 1), round(max(times), 1)


def cpu_seconds(parent: int) -> float:
    """Return the CPU seconds of all living descendants of ``parent``."""
    table: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            table[int(entry.parent.name)] = int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")
    family = {parent}
    while grown := {pid for pid, (above, _) in table.items() if above in family} - family:
        family |= grown
    return sum(table[pid][1] for pid in family - {parent} if pid in table)


def measure(folder: Path) -> dict[str, Any]:
    """Return all figures by name."""
    tree: dict[str, Any] = {
        "run": {"name": "cost", "output_dir": str(folder)},
        "model": {"name": "resnet18"},
        "data": {"root": "data"},
        "optim": {"lr": 0.1},
        "train": {"global_batch": 8},
        "log": {"wandb": {"mode": "offline"}},
    }
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    figures: dict[str, Any] = {"row": "median and worst, in microseconds"}
    facts = Facts(run, total_steps=ROWS)
    jsonl, tensorboard, wandb = JsonlLogger(), TensorBoardLogger(), WandbLogger()
    jsonl.start(cfg, facts)
    figures["metrics.jsonl, row"] = median_us(jsonl.row)
    tensorboard.start(cfg, facts)
    figures["TensorBoard, row"] = median_us(tensorboard.row)
    began = time.perf_counter()
    wandb.start(cfg, facts)
    figures["W&B logger, start, ms"] = round((time.perf_counter() - began) * 1e3, 1)

    time.sleep(START_S)
    at_start = cpu_seconds(os.getpid())
    for step in range(ROWS + 1, ROWS + 1 + 2 * WATCH_S):
        jsonl.row({"step": step} | ROW)
        time.sleep(0.5)
    figures["uploader and wandb-core, CPU seconds to start"] = round(at_start, 2)
    running = (cpu_seconds(os.getpid()) - at_start) * 60 / WATCH_S
    figures["uploader and wandb-core, CPU seconds per minute, two rows per second"] = round(running, 2)
    figures["W&B logger, row"] = median_us(wandb.row)
    began = time.perf_counter()
    wandb.close("done")
    figures["W&B logger, close offline, ms"] = round((time.perf_counter() - began) * 1e3, 1)
    figures["wandb.log in the training process, row"] = in_process(folder)
    return figures


def in_process(folder: Path) -> tuple[float, float]:
    """Return the figures of ``run.log`` in the training process, which our logger avoids."""
    import wandb

    os.environ["WANDB_SILENT"] = "true"
    live = wandb.init(mode="offline", dir=str(folder), settings=wandb.Settings(console="off"))
    figures = median_us(live.log)
    live.finish()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    text = json.dumps(
        {
            "date": time.strftime("%Y-%m-%d"),
            "hardware": f"{os.cpu_count()} shared CPU cores",
            "command": "python -m benchmarks.logging_cost",
        }
        | figures,
        indent=2,
    )
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
