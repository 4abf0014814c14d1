"""Print rows and a progress bar on the terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dist_train.config.schema import Config
from dist_train.loggers.base import Facts, Logger
from dist_train.run.metrics_file import Row
from dist_train.run.result import Status
from dist_train.system.machine.clock import awake_s
from dist_train.system.terminal import CLOCK, COLUMNS, digits

log = logging.getLogger("dist_train")

WIDTH = COLUMNS - len(CLOCK)
"""Columns of a line behind the time."""

NOTABLE_WAIT = 0.05
"""A row shows the share of time spent waiting for data if it is at least this."""


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar without tqdm's monitor thread, which would still run after the training."""

    monitor_interval = 0


class ConsoleLogger(Logger):
    """Print one line per row, and a progress bar below them if stderr is a terminal."""

    def start(self, config: Config, facts: Facts) -> None:
        self._total, self._first, self._began = facts.total_steps, facts.step, awake_s()
        self._open, self._bar = ExitStack(), None
        if sys.stderr.isatty():
            bar = Bar(total=self._total, initial=self._first, unit="step", dynamic_ncols=True)
            self._bar = self._open.enter_context(bar)
            self._open.enter_context(logging_redirect_tqdm([log]))  # print log lines above the bar

    def tick(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update()

    def row(self, row: Row) -> None:
        log.info(describe_row(row, self._total, self._eta_s(row)))

    def _eta_s(self, row: Row) -> float | None:
        done = int(row["step"]) - self._first
        if row["split"] != "train" or done == 0:
            return None
        return (awake_s() - self._began) / done * float(self._total - row["step"])

    def close(self, status: Status) -> None:
        self._open.close()


def describe_row(row: Row, total_steps: int, eta_s: float | None) -> str:
    """Return a row as one line of text: as many values as fit into ``WIDTH``, the most important first.

    >>> describe_row({"step": 3, "epoch": 0.5, "split": "val", "loss": 1.25, "top1": 50.0}, 6, None)
    'step 3/6 epoch 0.50 val   loss 1.25 top1 50'
    """
    line = f"step {row['step']}/{total_steps} epoch {row['epoch']:.2f} {row['split']:<5}"
    eta = "" if eta_s is None else f" eta {timedelta(seconds=round(eta_s))}"
    for part in _parts(row):
        if len(f"{line} {part}{eta}") > WIDTH:
            break
        line = f"{line} {part}"
    return line + eta


def _parts(row: Row) -> Iterator[str]:
    """Yield the values as text: loss, metrics, then values of the machine."""
    texts = {
        "lr": "lr {:.3g}",
        "grad_norm": "grad {:.3g}",
        "images_per_s": "{:.0f} img/s",
        "data_wait": "wait {:.0%}",
        "gpu_mem_gb": "{:.1f} GB",
        "mfu": "mfu {:.0%}",
        "loss_scale": "scale {:.0f}",
        "skipped_steps": "skipped {}",
        "seconds": "{:.1f} s",
    }
    # Slow ranks are not shown: a warning names them. The machine's columns are for a dashboard.
    not_shown = (
        *("step", "epoch", "split", "data_wait_max", "slowest_rank", "slowest_ratio"),
        *("host_mem_gb", "loader_mem_gb", "gpu_util", "gpu_watts", "gpu_used_gb"),
    )
    for name, value in row.items():
        if name not in not_shown and name not in texts:
            yield f"{name} {digits(value)}"
    for name, text in texts.items():
        if name in row and (name != "data_wait" or row[name] >= NOTABLE_WAIT):
            yield text.format(row[name])
