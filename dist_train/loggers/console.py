"""Rows on the terminal."""

import logging
import sys
import time
from datetime import timedelta

from tqdm import tqdm

from dist_train.config.plan import Plan
from dist_train.loggers.base import Row
from dist_train.run.result import Status

log = logging.getLogger("dist_train")


class ConsoleSink:
    """One line a row; under a progress bar where there is a terminal."""

    def __init__(self, plan: Plan, step: int) -> None:
        self._plan, self._start, self._began = plan, step, time.monotonic()
        self._bar = tqdm(
            total=plan.total_steps, initial=step, unit="step", dynamic_ncols=True, disable=not sys.stderr.isatty()
        )

    def tick(self) -> None:
        self._bar.update()

    def row(self, row: Row) -> None:
        done = row["step"] - self._start
        left = (time.monotonic() - self._began) / done * (self._plan.total_steps - row["step"]) if done else 0.0
        text = describe_row(row, self._plan.total_steps, eta_s=left if row["split"] == "train" else None)
        if self._bar.disable:
            log.info(text)
        else:
            self._bar.write(text)

    def close(self, status: Status, exit_code: int) -> None:
        self._bar.close()


def describe_row(row: Row, total_steps: int, eta_s: float | None) -> str:
    """A row as one line for people.

    >>> describe_row({"step": 3, "epoch": 0.5, "split": "val", "loss": 1.25, "top1": 50.0}, 6, None)
    'step 3/6  epoch 0.50  val    loss 1.25  top1 50'
    """
    parts = [f"step {row['step']}/{total_steps}", f"epoch {row['epoch']:.2f}", f"{row['split']:<5}"]
    units = {"images_per_s": "{:.0f} images/s", "data_wait": "waited {:.0%}"}
    for name, value in row.items():
        if name not in ("step", "epoch", "split", "data_wait_max", "slowest_rank", "slowest_ratio"):
            parts.append(units[name].format(value) if name in units else f"{name} {value:.4g}")
    if eta_s is not None:
        parts.append(f"eta {timedelta(seconds=round(eta_s))}")
    return "  ".join(parts)
