"""Brackets for tests, whose runs are folders with the rows that a trainer would write."""

import json
from pathlib import Path

from dist_train.run.folder import RunDir
from dist_train.run.result import Result, write_result
from launch.jobs.halving import Bracket


def write_config(folder: Path, **values: str) -> Path:
    """A config with 9 epochs."""
    lines = {
        "run": f"{{name: grid, output_dir: {folder / 'runs'}}}",
        "model": "{name: resnet18, pretrained: false}",
        "data": f"{{root: {folder}}}",
        "optim": "{lr: 0.1}",
        "train": "{global_batch: 4, epochs: 9}",
        "eval": "{metric: loss}",
    }
    path = folder / "config.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in (lines | values).items()))
    return path


def bracket(folder: Path, runs: int, rungs: list[int], **values: str) -> Bracket:
    """A bracket of runs that are called r00, r01, ..."""
    config = str(write_config(folder, **values))
    return Bracket([(config, [f"run.name=r{number:02}"]) for number in range(runs)], rungs, 3)


def reach(
    made: Bracket, number: int, scores: dict[int, float | None], status: str = "stopped", metric: str = "loss"
) -> None:
    """Write that a run has been evaluated at these epochs."""
    run = RunDir.of(made.config(number).run)
    run.path.mkdir(parents=True, exist_ok=True)
    rows = [
        {"step": 10 * epoch, "epoch": float(epoch), "split": "val", metric: score} for epoch, score in scores.items()
    ]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_result(run, Result(status=status, step=10 * max(scores, default=0)))  # type: ignore[arg-type]
