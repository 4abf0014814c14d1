"""A trainer without the training, for W&B tests: writes rows, drives the logger, may be killed at any moment.

``python tests/support/wandb_trainer.py RUN FIRST LAST STATUS [SECONDS_PER_STEP] [MODE]`` trains steps FIRST+1 to LAST, with a
validation row at every fifth, then closes with STATUS; STATUS ``hang`` waits to be killed instead.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from dist_train.config import Config, parse_config
from dist_train.loggers.base import Facts
from dist_train.loggers.wandb.logger import WandbLogger
from dist_train.run.folder import RunDir
from dist_train.run.provenance import begin_attempt
from dist_train.run.result import Result, write_result
from dist_train.system.files import write_json


def config_of(run: Path, mode: str = "auto") -> Config:
    return parse_config(
        {
            "run": {"name": run.name, "output_dir": str(run.parent)},
            "model": {"name": "resnet18"},
            "data": {"root": "data"},
            "optim": {"lr": 0.1},
            "train": {"global_batch": 8},
            "log": {
                "report": True,
                "wandb": {"mode": mode, "project": "tests", "group": "experiment", "tags": ["a", "b"]},
            },
        }
    )


def rows_of(step: int) -> list[dict[str, Any]]:
    """The rows that belong to a step: a pure function, as in a training that resumes exactly."""
    rows = [{"step": step, "epoch": step / 10, "split": "train", "loss": 1 / step, "lr": 0.1, "images_per_s": 100.0}]
    if step % 5 == 0:
        rows.append({"step": step, "epoch": step / 10, "split": "val", "loss": 2 / step, "top1": 1 - 1 / step})
    return rows


def rewind(path: Path, step: int) -> None:
    """Drop the rows that are trained again, as the trainer's own logger does."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def main(path: str, first: int, last: int, status: str, delay: float = 0.0, mode: str = "auto") -> None:
    run = RunDir(Path(path))
    cfg = config_of(run.path, mode)
    attempt = begin_attempt(run, cfg, world_size=2, hosts=["here"])
    rewind(run.metrics, first)
    result = Result(attempt=attempt, total_steps=last)
    logger = WandbLogger()
    logger.start(cfg, Facts(run, last, step=first, details={"world_size": 2, "attempt": attempt}))
    started = time.perf_counter()
    for step in range(first + 1, last + 1):
        for row in rows_of(step):
            with open(run.metrics, "a") as file:
                file.write(json.dumps(row) + "\n")
            if row["split"] == "val":
                result.best = result.last = {"step": step, "top1": row["top1"], "loss": row["loss"]}
                write_result(run, result)
            logger.row(row)
        time.sleep(delay)
    print(json.dumps({"loop_s": time.perf_counter() - started}), flush=True)
    if status == "hang":
        time.sleep(600)
    result.step, result.status = last, status  # type: ignore[assignment]
    write_result(run, result)
    if status == "done":
        write_json(run.classes, ["cat", "dog"])
    before = time.perf_counter()
    logger.close(status)  # type: ignore[arg-type]
    print(json.dumps({"close_s": time.perf_counter() - before}), flush=True)


if __name__ == "__main__":
    path, first, last, status, *more = sys.argv[1:]
    main(path, int(first), int(last), status, float(more[0]) if more else 0.0, more[1] if more[1:] else "auto")
