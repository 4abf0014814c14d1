"""Write run folders by the trainer's own code, and call ``launch/compare.py`` on them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from dist_train.config import parse_config
from dist_train.run.folder import RunDir
from dist_train.run.provenance import begin_attempt
from dist_train.run.result import Result, write_result
from launch import compare
from tests.support.commands import call

SCRIPT = Path(__file__).parents[2] / "launch" / "compare.py"


def make_run(
    output_dir: Path, name: str, lr: float = 0.1, top1: float = 50.0, attempts: int = 1, **result: Any
) -> RunDir:
    """Four steps and two evaluations; the first is the best one."""
    tree: dict[str, Any] = {
        "run": {"name": name, "output_dir": str(output_dir)},
        "model": {"name": "resnet18"},
        "data": {"root": "data"},
        "optim": {"lr": lr},
        "train": {"global_batch": 8},
    }
    cfg = parse_config(tree)
    run = RunDir.of(cfg.run)
    run.path.mkdir(parents=True)
    for _ in range(attempts):
        begin_attempt(run, cfg, world_size=2, hosts=["here"])
    rows: list[dict[str, Any]] = [
        {"step": step, "epoch": step / 2, "split": "train", "loss": 1 / step, "images_per_s": 16.0}
        for step in (1, 2, 3, 4)
    ]
    scores = [{"step": 2, "loss": 0.5, "top1": top1}, {"step": 4, "loss": 0.6, "top1": top1 - 5}]
    rows += [{"epoch": 1.0, "split": "val", "seconds": 0.25} | row for row in scores]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    best, last = scores
    write_result(run, Result(**{"status": "done", "attempt": attempts, "step": 4, "best": best, "last": last} | result))
    return run


def run_script(*args: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess(args, *call(compare.main, *map(str, args)))


def table_of(text: str) -> list[dict[str, str]]:
    head, *lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def page_data(html: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html.read_text(), re.DOTALL)
    return dict(json.loads(text))
